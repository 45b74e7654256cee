"""Images with and without labels, in memory or as files, and their split by seed."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dlkd.errors import UserError, first_line

Indices = npt.NDArray[np.int64]
UNLABELLED = -1
"""Stands for the label of an image that has none."""


class ArrayPixels:
    """A small data set held in memory whole.

    Args:
        array: ``[N, channels, H, W]``, uint8.
    """

    def __init__(self, array: Tensor) -> None:
        if array.ndim != 4 or array.dtype != torch.uint8:
            raise ValueError(
                f"expected images as uint8 of shape [N, channels, H, W], but got {array.dtype} {list(array.shape)}"
            )
        self.array = array.contiguous()

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.array.shape[1]

    def take(self, index: Indices) -> ArrayPixels:
        """The chosen images, in the order of ``index``."""
        return ArrayPixels(self.array[torch.from_numpy(index).to(self.array.device)])

    def to(self, device: torch.device) -> ArrayPixels:
        """The same images in the memory of ``device``."""
        return ArrayPixels(self.array.to(device))

    def digest(self) -> str:
        """sha256 of shape and pixels."""
        pixels = self.array.cpu().numpy()
        return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


class FilePixels:
    """Image files, opened when they are asked for.

    Args:
        paths: one file each sample.
        root: the folder that ``paths`` are told relative to in tables and digests.
        beside: the folder of those that are not in ``root``: images without labels.
    """

    channels = 3

    def __init__(self, paths: Sequence[Path], root: Path, beside: Path | None = None) -> None:
        self.paths, self.root, self.beside = list(paths), root, beside

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, index: Indices) -> FilePixels:
        """The chosen files, in the order of ``index``."""
        return FilePixels([self.paths[i] for i in index], self.root, self.beside)

    def name(self, position: int) -> str:
        """The path of a file without that of its folder; of one that is not in ``root``, after ``unlabelled/``."""
        path = self.paths[position]
        if self.beside is None or path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        return f"unlabelled/{path.relative_to(self.beside).as_posix()}"

    def load(self, position: int) -> Image.Image:
        """The image in RGB, turned upright as its EXIF orientation says."""
        path = self.paths[position]
        try:
            with Image.open(path) as image:
                upright: Image.Image = ImageOps.exif_transpose(image)
                return _eight_bits(upright).convert("RGB")
        except FileNotFoundError as error:
            raise UserError(f"expected an image at {path}, but the file is gone") from error
        except Exception as error:  # every decoder of Pillow fails in its own way: struct.error, EOFError, …
            raise UserError(f"{path} is damaged or no image ({first_line(error)}); replace or remove it") from error

    def digest(self) -> str:
        """sha256 of every file's relative path, size and first 4 KiB: cheap enough for millions of files."""
        h = hashlib.sha256()
        for position, path in enumerate(self.paths):
            try:
                with path.open("rb") as file:
                    head, size = file.read(4096), os.fstat(file.fileno()).st_size
            except OSError as error:
                raise UserError(f"could not read {path}: {error.strerror}; put it back or remove it") from error
            # As bytes: a name need not be valid UTF-8.
            h.update(os.fsencode(self.name(position)) + f"\0{size}\0".encode() + head)
        return h.hexdigest()


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels, of no known range")
    if not image.mode.startswith("I"):
        return image
    # 16 bits of grey: Pillow's own conversion turns whatever is above 255 white.
    return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


Pixels = ArrayPixels | FilePixels


@dataclass(frozen=True)
class Samples:
    """Images with the labels that a user would be given, possibly wrong ones."""

    pixels: Pixels
    labels: Tensor
    """``[N]``, int64; −1 for an image without one."""
    ids: Indices
    """``[N]``: the samples' numbers in their data set, which name their views whatever the split."""
    class_names: tuple[str, ...]
    wrong: npt.NDArray[np.bool_] | None = None
    """``[N]``: where the given label is known to be wrong; None where nobody knows."""

    def __post_init__(self) -> None:
        n, classes = len(self.pixels), len(self.class_names)
        if self.labels.shape != (n,) or self.ids.shape != (n,):
            raise ValueError(f"expected one label and number for each of {n} images, but got {self.labels.numel()}")
        check_labels(self.labels, classes, least=UNLABELLED)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Indices) -> Samples:
        """The chosen samples, in the order of ``index``."""
        wrong = None if self.wrong is None else self.wrong[index]
        labels = self.labels[torch.from_numpy(index)]
        return replace(self, pixels=self.pixels.take(index), labels=labels, ids=self.ids[index], wrong=wrong)

    @functools.cached_property
    def unlabelled(self) -> int:
        """How many images have no label."""
        return int((self.labels < 0).sum())

    def labelled(self) -> Samples:
        """Those that have a label."""
        return self.take(np.flatnonzero(self.labels.numpy() >= 0)) if self.unlabelled else self

    def with_hidden_labels(self, hidden: Indices) -> Samples:
        """The same images, those at ``hidden`` without a label, which then is not wrong either."""
        labels = self.labels.clone()
        labels[torch.from_numpy(hidden)] = UNLABELLED
        wrong = None if self.wrong is None else self.wrong.copy()
        if wrong is not None:
            wrong[hidden] = False
        return replace(self, labels=labels, wrong=wrong)

    def with_unlabelled(self, paths: Sequence[Path], beside: Path, first: int) -> Samples:
        """These images and, after them, more files without labels, numbered from ``first``.

        Raises:
            ValueError: these images do not come from files.
        """
        if not isinstance(self.pixels, FilePixels):
            raise ValueError("expected images from files to add more files to, but got images in memory")
        more = len(paths)
        return Samples(
            FilePixels([*self.pixels.paths, *paths], self.pixels.root, beside),
            torch.cat([self.labels, torch.full((more,), UNLABELLED)]),
            np.concatenate([self.ids, np.arange(first, first + more)]),
            self.class_names,
            None if self.wrong is None else np.concatenate([self.wrong, np.zeros(more, bool)]),
        )

    def relabelled(self, labels: npt.NDArray[np.int64], wrong: npt.NDArray[np.bool_]) -> Samples:
        """The same images under other labels."""
        return replace(self, labels=torch.from_numpy(labels), wrong=wrong)

    def digest(self) -> str:
        """sha256 of the images and which samples they are, labels left out: teachers do not see them."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        # Once: the run card, the view family and the teacher's card all ask, and every file is opened for it.
        return hashlib.sha256(self.pixels.digest().encode() + self.ids.tobytes()).hexdigest()


def check_labels(labels: Tensor, classes: int, least: int = 0) -> None:
    """Refuse labels ``[N]`` that name no class.

    Raises:
        UserError: one is below ``least``, or not below the number of classes.
    """
    if labels.numel() and not least <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"expected labels between 0 and {classes - 1} ({classes} classes), "
            f"but found {int(labels.min())} to {int(labels.max())}"
        )


def stratified_split(labels: npt.ArrayLike, share: float, seed: int | tuple[int, ...]) -> tuple[Indices, Indices]:
    """Sorted indices of the rest and of a seeded held-out part with round(share·n) of each class."""
    if not 0 <= share <= 1:
        raise ValueError(f"expected the held-out share to be in [0, 1], but got {share}")
    y = np.asarray(labels)
    random = np.random.default_rng(seed)
    held = np.zeros(y.size, bool)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        held[random.choice(members, round(share * members.size), replace=False)] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
