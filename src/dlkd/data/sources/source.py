"""What every source of images gives, and what they share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkd.data.pixels import ArrayPixels, FilePixels, Pixels
from dlkd.data.samples import Samples, check_labels
from dlkd.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jfif"}
TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation")


class Source(NamedTuple):
    """A data set as its makers give it."""

    train: Samples
    test: Samples | None
    """None where the makers name no test images."""
    remarks: tuple[str, ...] = ()
    """What the user should know of it, in words."""


def in_memory(pixels: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> Samples:
    """Samples out of uint8 ``[N, channels, H, W]`` and labels ``[N]``, all of them known."""
    return numbered(ArrayPixels(pixels), labels, class_names)


def numbered(pixels: Pixels, labels: Tensor | Sequence[int], class_names: tuple[str, ...]) -> Samples:
    """Samples in their order, all labels known."""
    labels = torch.as_tensor(labels).long()
    check_labels(labels, len(class_names))
    return Samples(pixels, labels, np.arange(labels.numel(), dtype=np.int64), class_names)


def at_least_two(names: Sequence[str], where: Path | str) -> tuple[str, ...]:
    """``names`` of classes, if there is something to tell apart."""
    if len(names) < 2:
        only = f" ({names[0]})" if len(names) else ""
        raise UserError(f"expected at least two classes in {where}, but found {len(names)}{only}")
    return tuple(names)


def classes_of(labels: Iterable[object], where: Path | str) -> tuple[str, ...]:
    """The classes that ``labels`` name, in the order of their numbers if all are whole numbers, otherwise of names."""
    names = {str(label) for label in labels}
    number = all(re.fullmatch(r"-?\d+", name) for name in names)
    return at_least_two(sorted(names, key=lambda name: (int(name) if number else 0, name)), where)


def class_numbers(labels: Sequence[object], names: tuple[str, ...], where: Path | str) -> list[int]:
    """The number of each label's class.

    Raises:
        UserError: ``names``, those of the training images, lack one.
    """
    number = {name: k for k, name in enumerate(names)}
    if strange := next((str(label) for label in labels if str(label) not in number), None):
        raise UserError(f"expected {where} to hold the classes of the training images, but found {strange!r} too")
    return [number[str(label)] for label in labels]


def which_part(name: str) -> str | None:
    """``train``, ``test`` or ``val`` for the name of a split or shard, such as ``imagenet-train-000``; else None."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    if words & set(TRAIN_NAMES):
        return "train"
    if "test" in words:
        return "test"
    return "val" if words & set(TEST_NAMES) else None


def there(paths: Sequence[Path]) -> list[bool]:
    """Whether each file exists, by listing every folder once: millions of single questions take minutes."""
    listed: dict[Path, set[str]] = {}
    for folder in {path.parent for path in paths}:
        listed[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    return [path.name in listed[path.parent] for path in paths]


def of_list(files: Sequence[tuple[Path, int]], names: tuple[str, ...], root: Path) -> tuple[Samples, int]:
    """Samples out of an official list of files and labels, and how many of them are not there.

    Raises:
        UserError: none is there.
    """
    known = there([path for path, _ in files])
    kept = [file for file, is_there in zip(files, known, strict=True) if is_there]
    if not kept:
        raise UserError(f"expected the images that the lists in {root} name, but found none of {len(files)}")
    pixels = FilePixels([path for path, _ in kept], root)
    try:
        return numbered(pixels, [label for _, label in kept], names), len(files) - len(kept)
    except UserError as error:
        raise UserError(f"the lists in {root} are damaged: {error}") from error
