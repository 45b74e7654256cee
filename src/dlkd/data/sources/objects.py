"""Any map-style ``Dataset`` object of (image, label)."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dlkd.data.pixels import FilePixels, Indices, refuse_unread, upright_rgb
from dlkd.data.samples import Samples
from dlkd.data.sources.source import Source, at_least_two, classes_of, numbered
from dlkd.errors import UserError, first_line
from dlkd.plugins import load_object

DIGESTED = 256


class ObjectPixels(FilePixels):
    """Images that a ``Dataset`` object gives when it is asked.

    Args:
        dataset: ``dataset[k]`` is (image, label, …).
        what: what messages and tables call it.
        rows: which of its samples these are.
    """

    def __init__(self, dataset: Any, what: str, rows: Indices) -> None:
        super().__init__([], Path())
        self.dataset, self.what, self.rows = dataset, what, rows

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, index: Indices) -> ObjectPixels:
        """The chosen images, in the order of ``index``."""
        return ObjectPixels(self.dataset, self.what, self.rows[index])

    def name(self, position: int) -> str:
        """The number of the sample in its data set."""
        return str(self.rows[position])

    def place(self, position: int) -> str:
        """What messages call an image."""
        return f"sample {self.rows[position]} of {self.what}"

    def sizes(self) -> list[int]:
        """−1 for each: nobody knows before it is asked for."""
        return [-1] * len(self)

    def load(self, position: int) -> Image.Image:
        """The image in RGB."""
        try:
            return as_image(self.dataset[int(self.rows[position])][0])
        except MemoryError:
            raise
        except Exception as error:  # a stranger's code
            refuse_unread(self.place(position), error)
            raise UserError(f"{self.place(position)} cannot be read: {first_line(error)}") from error

    def digest(self) -> str:
        """sha256 of how many samples there are and of the pixels of up to 256 of them, evenly spread."""
        h = hashlib.sha256(f"{len(self)}".encode())
        for position in np.unique(np.linspace(0, len(self) - 1, min(len(self), DIGESTED)).astype(int)):
            image = self.load(int(position))
            h.update(f"{image.size}".encode() + image.tobytes())
        return h.hexdigest()


def as_image(image: object) -> Image.Image:
    """A PIL image in RGB out of one, or of a tensor or array.

    Args:
        image: a PIL image, a tensor ``[channels, H, W]`` or an array ``[H, W]`` or ``[H, W, channels]``, of one or
            three channels, uint8 or floating-point in [0, 1].

    Raises:
        ValueError: anything else.
    """
    if isinstance(image, Image.Image):
        return upright_rgb(image)
    if isinstance(image, torch.Tensor):
        array = image.detach().cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    else:
        raise ValueError(f"expected a PIL image, a tensor or an array, but got {type(image).__name__}")
    array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"expected an image of one or three channels, but got {list(image.shape)}")
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(
                f"expected floating-point pixels in [0, 1], but got {array.min():.3g} to {array.max():.3g}; leave out "
                "the normalisation, each model has its own"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"expected uint8 or floating-point pixels, but got {array.dtype}")
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def from_dataset(dataset: Any, class_names: Sequence[str] | None = None, what: str = "the data set") -> Samples:
    """Samples out of a map-style data set of (image, label).

    Args:
        dataset: has ``len`` and gives (image, label, …) for a number, the same each time it is asked. Images are PIL
            images, tensors ``[channels, H, W]`` or arrays ``[H, W, channels]``, without augmentation or normalisation.
            Labels are read from ``dataset.targets`` or ``dataset.labels`` where there are any; otherwise every sample
            is asked once.
        class_names: by default ``dataset.classes``, or the numbers of the labels.
        what: what messages call the data set.

    Raises:
        UserError: no such data set, no samples, labels that are no class numbers, an image of no known kind.
    """
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise UserError(f"expected {what} to have a length and samples by number, but got {type(dataset).__name__}")
    n = len(dataset)
    given = next((getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)), None)
    try:
        labels = [int(label) for label in ((dataset[k][1] for k in range(n)) if given is None else given)]
    except Exception as error:  # a stranger's code
        raise UserError(
            f"expected {what} to give (image, class number) for each sample, but it failed: {first_line(error)}"
        ) from error
    if not labels or len(labels) != n:
        raise UserError(f"expected a label for each sample of {what}, but found {len(labels)} labels, {n} samples")
    found = class_names if class_names is not None else getattr(dataset, "classes", None)
    names = _numbers(labels, what) if found is None else at_least_two([str(name) for name in found], what)
    pixels = ObjectPixels(dataset, what, np.arange(n))
    pixels.load(0)
    return numbered(pixels, labels, names)


def _numbers(labels: list[int], what: str) -> tuple[str, ...]:
    """``0`` to the highest label, unless it can be no number of a class."""
    classes_of(labels, what)
    if min(labels) < 0 or max(labels) >= max(1000, len(labels)):
        raise UserError(
            f"expected labels of {what} that count the classes from 0, but found {min(labels)}, {max(labels)}"
        )
    return tuple(str(k) for k in range(max(labels) + 1))


def from_factory(name: str, root: Path) -> Source:
    """What ``package.module:factory`` makes: a ``Source``, a data set of (image, label), or a pair (train, test).

    It is called with ``--data.root`` if it takes an argument.
    """
    try:
        factory = load_object(name, "data set")
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        made = factory(root) if inspect.signature(factory).parameters else factory()
    except UserError:
        raise
    except Exception as error:  # a stranger's code
        raise UserError(f"{name} raised {type(error).__name__}: {first_line(error)}") from error
    if isinstance(made, Source):
        return made
    if not isinstance(made, tuple):
        return Source(_samples(made, name), None)
    if len(made) != 2:
        raise UserError(f"expected {name} to give (training, test) images, but got {len(made)} things")
    train = _samples(made[0], f"the training images of {name}")
    return Source(train, _samples(made[1], f"the test images of {name}", train.class_names))


def _samples(made: Any, what: str, names: tuple[str, ...] | None = None) -> Samples:
    samples = made if isinstance(made, Samples) else from_dataset(made, getattr(made, "classes", names), what)
    if names is not None and samples.class_names != names:
        raise UserError(
            f"expected {what} to have the {len(names)} classes of the training images, in their order, but found "
            f"{', '.join(samples.class_names[:5])}, …"
        )
    return samples
