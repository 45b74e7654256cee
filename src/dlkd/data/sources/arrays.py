"""Images that fit in memory: the bundled digits, CIFAR and arrays in a file."""

from __future__ import annotations

import contextlib
import http.client
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlkd.arrays import read_arrays
from dlkd.data.samples import Samples
from dlkd.data.sources.source import Source, in_memory
from dlkd.errors import UserError, first_line


def digits() -> Source:
    """The 1,797 handwritten digits that scikit-learn carries: 8×8, one channel, ten classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    return Source(in_memory(pixels, torch.from_numpy(bunch.target), tuple("0123456789")), None)


def cifar(name: str, root: Path, download: bool) -> Source:
    """CIFAR-10 or CIFAR-100 in the official layout under ``root``, checked by torchvision against its md5."""
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]

    def split(train: bool) -> Samples:
        try:
            # torchvision prints its progress on standard output, which belongs to the results.
            with contextlib.redirect_stdout(io.StringIO()):
                part = kind(root, train=train, download=download and not (root / kind.base_folder).is_dir())
        except (RuntimeError, OSError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
            raise UserError(_not_there(name, root, kind, download, error)) from error
        pixels = torch.from_numpy(part.data).permute(0, 3, 1, 2)
        return in_memory(pixels, torch.tensor(part.targets), tuple(part.classes))

    return Source(split(True), split(False))


def _not_there(name: str, root: Path, kind: Any, download: bool, error: BaseException) -> str:
    place = root / kind.base_folder
    if place.is_dir():
        return f"{place} is incomplete or damaged; delete it, so that it is fetched again"
    if not download:
        return (
            f"expected {name} at {place}, but found none; give --data.root, or --data.download true, or unpack "
            f"{kind.url} in {root}"
        )
    return (
        f"could not download {name} to {root} ({first_line(error)}); "
        f"try again, or unpack {kind.url} there, as {kind.base_folder}, and give --data.root"
    )


def npz(path: Path) -> Source:
    """Arrays in one ``.npz`` file, in the layout of MedMNIST.

    ``train_images``, ``train_labels`` and, if there are any, ``test_images``, ``test_labels``: uint8
    ``[N, H, W]`` or ``[N, H, W, channels]`` of one or three channels, labels ``[N]`` or ``[N, 1]``;
    ``class_names`` is optional.
    """
    arrays = _arrays(path)
    if missing := {"train_images", "train_labels"} - arrays.keys():
        raise UserError(f"expected {path} to hold {' and '.join(sorted(missing))}, but found {sorted(arrays)}")
    parts = ["train", "test"] if {"test_images", "test_labels"} <= arrays.keys() else ["train"]
    checked = {part: _checked(path, part, arrays[f"{part}_images"], arrays[f"{part}_labels"]) for part in parts}
    names = _class_names(path, arrays.get("class_names"), checked["train"][1])
    try:
        train, *test = (in_memory(images, labels, names) for images, labels in checked.values())
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return Source(train, test[0] if test else None)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return read_arrays(path)
    except ValueError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise UserError(f"expected an .npz file at {path}, but there is none; give it as --data.root") from error
        raise UserError(f"{path} is damaged or no plain .npz file of arrays: {first_line(error)}") from error


def _checked(path: Path, part: str, images: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Images ``[N, channels, H, W]`` and labels ``[N]`` of one part."""
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or labels.dtype.kind not in "iu":
        raise UserError(
            f"expected {part}_images in {path} to be uint8 [N, H, W] or [N, H, W, 1 or 3] with whole labels, "
            f"but found {images.dtype} {list(images.shape)} with {labels.dtype}"
        )
    if len(images) != labels.size:
        raise UserError(f"expected as many {part}_labels as images in {path}, but found {labels.size}, {len(images)}")
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels.reshape(-1).astype(np.int64))


def _class_names(path: Path, given: npt.NDArray[Any] | None, labels: Tensor) -> tuple[str, ...]:
    if given is not None:
        names = tuple(str(name) for name in given.reshape(-1).tolist())
    else:
        highest = max(labels.tolist(), default=-1)
        if highest >= max(1000, len(labels)):
            raise UserError(f"expected labels in {path} that count the classes from 0, but found {highest}")
        names = tuple(str(c) for c in range(highest + 1))
    if len(names) < 2:
        raise UserError(f"expected at least two classes in {path}, but found {len(names)}")
    return names
