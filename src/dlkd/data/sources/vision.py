"""Data sets that torchvision reads: Stanford Cars, FGVC-Aircraft, Flowers-102, Oxford Pets, Food-101."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any, NamedTuple

from torchvision import datasets

from dlkd.data.samples import Samples
from dlkd.data.sources.source import of_list


class VisionSet(NamedTuple):
    """How torchvision calls a data set, and which of its splits are for training."""

    kind: Any
    train: tuple[str, ...]


VISION = {
    "stanford-cars": VisionSet(datasets.StanfordCars, ("train",)),
    "fgvc-aircraft": VisionSet(datasets.FGVCAircraft, ("trainval",)),
    # Its authors' test images are three times as many as the others; both others are for training, as usual.
    "flowers102": VisionSet(datasets.Flowers102, ("train", "val")),
    "oxford-pets": VisionSet(datasets.OxfordIIITPet, ("trainval",)),
    "food101": VisionSet(datasets.Food101, ("train",)),
}


def from_torchvision(name: str, base: Path, download: bool) -> tuple[Samples, Samples, int]:
    """Training and test images, and how many files of the official lists are not there.

    Raises:
        Exception: whatever torchvision raises where files are missing or damaged.
    """
    about = VISION[name]
    parts = []
    for split in (*about.train, "test"):
        # torchvision prints its progress on standard output, which belongs to the results.
        with contextlib.redirect_stdout(io.StringIO()):
            parts.append(about.kind(base.parent, split=split, download=download))
    names = tuple(str(each) for each in parts[0].classes)
    train, gone = of_list([file for part in parts[:-1] for file in _files(part)], names, base)
    test, also = of_list(_files(parts[-1]), names, base)
    return train, test, gone + also


def _files(part: Any) -> list[tuple[Path, int]]:
    """The files and labels that a data set of torchvision holds, under the names that its classes have for them."""
    if hasattr(part, "_samples"):
        return [(Path(path), int(label)) for path, label in part._samples]
    paths = part._images if hasattr(part, "_images") else part._image_files
    return [(Path(path), int(label)) for path, label in zip(paths, part._labels, strict=True)]
