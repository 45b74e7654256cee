"""Data sets whose authors give lists of files: CUB, Stanford Dogs, MIT-67, Stanford-40, Tiny-ImageNet, ImageNet.

Each function reads the folder ``base`` in the layout of the official archives and returns its training and test
images, and how many files of the lists are not there.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlkd.data.samples import Samples
from dlkd.data.sources.folders import class_folders, folders_in
from dlkd.data.sources.source import at_least_two, class_numbers, of_list
from dlkd.errors import UserError

Parts = tuple[Samples, Samples, int]
Files = list[tuple[Path, int]]


def cub200(base: Path) -> Parts:
    """``images.txt``, ``image_class_labels.txt``, ``train_test_split.txt``: a number, then the word for it."""
    names = tuple(name for _, name in _pairs(base / "classes.txt"))
    place = dict(_pairs(base / "images.txt"))
    label = {image: int(number) - 1 for image, number in _pairs(base / "image_class_labels.txt")}
    parts: dict[str, Files] = {"1": [], "0": []}
    for image, training in _pairs(base / "train_test_split.txt"):
        parts[training].append((base / "images" / place[image], label[image]))
    return _both(parts["1"], parts["0"], names, base)


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for line in _lines(path):
        first, second = line.split(maxsplit=1)
        yield first, second


def stanford_dogs(base: Path) -> Parts:
    """``train_list.mat``, ``test_list.mat``: files below ``Images`` and labels from 1; a folder names its class."""
    from scipy.io import loadmat

    def listed(part: str) -> Files:
        found: dict[str, Any] = loadmat(base / f"{part}_list.mat", squeeze_me=True)
        files, labels = found["file_list"].tolist(), found["labels"].tolist()
        return [(base / "Images" / file, label - 1) for file, label in zip(files, labels, strict=True)]

    train, test = listed("train"), listed("test")
    name = {label: path.parent.name for path, label in train}
    return _both(train, test, tuple(name[label] for label in range(len(name))), base)


def mit67(base: Path) -> Parts:
    """``TrainImages.txt``, ``TestImages.txt``: ``class/file`` below ``Images``."""
    train, test = _lines(base / "TrainImages.txt"), _lines(base / "TestImages.txt")
    names = at_least_two(sorted({line.split("/")[0] for line in train}), base / "TrainImages.txt")

    def numbered(lines: list[str], which: str) -> Files:
        labels = class_numbers([line.split("/")[0] for line in lines], names, base / which)
        return [(base / "Images" / line, label) for line, label in zip(lines, labels, strict=True)]

    return _both(numbered(train, "TrainImages.txt"), numbered(test, "TestImages.txt"), names, base)


def stanford40(base: Path) -> Parts:
    """``ImageSplits/ACTION_train.txt``, ``ACTION_test.txt``: files in ``JPEGImages``."""
    splits = base / "ImageSplits"
    names = at_least_two(sorted(p.name[: -len("_train.txt")] for p in splits.glob("?*_train.txt")), splits)

    def listed(part: str) -> Files:
        return [
            (base / "JPEGImages" / file, label)
            for label, name in enumerate(names)
            for file in _lines(splits / f"{name}_{part}.txt")
        ]

    return _both(listed("train"), listed("test"), names, base)


def tiny_imagenet(base: Path) -> Parts:
    """``train/WNID/images`` and ``val/images`` with ``val/val_annotations.txt``; the test images have no labels."""
    train = class_folders(base / "train")
    rows = [line.split("\t")[:2] for line in _lines(base / "val" / "val_annotations.txt")]
    labels = class_numbers([wnid for _, wnid in rows], train.class_names, base / "val")
    files = [(base / "val" / "images" / file, label) for (file, _), label in zip(rows, labels, strict=True)]
    test, gone = of_list(files, train.class_names, base)
    return train, test, gone


def imagenet(base: Path) -> Parts:
    """``train/WNID``, ``val/WNID``; or as Kaggle gives it, ``val`` without folders and ``LOC_val_solution.csv``."""
    train = class_folders(base / "train")
    if folders_in(base / "val"):
        return train, class_folders(base / "val", train.class_names), 0
    table = next((up / "LOC_val_solution.csv" for up in (base, *base.parents[:3]) if _solution(up)), None)
    if table is None:
        raise UserError(
            f"expected {base / 'val'} to hold a folder for each class, or LOC_val_solution.csv beside it, but found "
            "neither; move each image into the folder of its class (its WNID)"
        )
    with table.open(newline="", encoding="utf-8") as file:
        rows = [(row["ImageId"], row["PredictionString"].split()[0]) for row in csv.DictReader(file)]
    labels = class_numbers([wnid for _, wnid in rows], train.class_names, table)
    files = [(base / "val" / f"{name}.JPEG", label) for (name, _), label in zip(rows, labels, strict=True)]
    test, gone = of_list(files, train.class_names, base)
    return train, test, gone


def _solution(folder: Path) -> bool:
    return (folder / "LOC_val_solution.csv").is_file()


def _both(train: Files, test: Files, names: tuple[str, ...], base: Path) -> Parts:
    (known, gone), (unknown, also) = of_list(train, names, base), of_list(test, names, base)
    return known, unknown, gone + also


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


READERS: dict[str, Callable[[Path], Parts]] = {
    "tiny-imagenet": tiny_imagenet,
    "imagenet": imagenet,
    "cub200": cub200,
    "stanford-dogs": stanford_dogs,
    "mit67": mit67,
    "stanford40": stanford40,
}
