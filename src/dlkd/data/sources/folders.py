"""Images in folders, one a class, and images of no class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dlkd.data.pixels import FilePixels
from dlkd.data.samples import Samples
from dlkd.data.sources.source import IMAGE_SUFFIXES, TEST_NAMES, TRAIN_NAMES, Source, numbered
from dlkd.errors import UserError


def folder(root: Path) -> Source:
    """An image folder: ``ROOT/CLASS/image``, or ``ROOT/train/CLASS/image`` beside ``test`` or ``val``.

    A ``test`` without classes, whose labels nobody gives, is passed over for ``val``. Hidden files are left out.
    """
    if not root.is_dir():
        raise UserError(f"expected a folder of images at {root}, but there is none; give it as --data.root")
    train = next((root / name for name in TRAIN_NAMES if (root / name).is_dir()), None)
    if train is None:
        return Source(class_folders(root), None)
    known = class_folders(train)
    tests = [root / name for name in TEST_NAMES if folders_in(root / name)]
    # A folder in ``test`` need not be a class: ``test/images`` is a usual place for images without labels.
    test = next((each for each in tests if set(folders_in(each)) & set(known.class_names)), next(iter(tests), None))
    return Source(known, None if test is None else class_folders(test, known.class_names))


def folders_in(root: Path) -> tuple[str, ...]:
    """Names of the folders in ``root``; none where there is no such folder."""
    if not root.is_dir():
        return ()
    return tuple(sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _images(root: Path) -> list[Path]:
    """Image files at any depth, sorted; not those of Finder (``._1.png``) and notebooks (``.ipynb_checkpoints``)."""
    found: list[Path] = []
    for folder, inner, files in os.walk(root):  # one listing a folder, where rglob asks about every file
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [
            Path(folder, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
        ]
    return sorted(found)


def unlabelled_files(root: Path, apart: Sequence[FilePixels]) -> list[Path]:
    """Image files at any depth of ``root``, sorted: more training images, of unknown classes.

    Args:
        root: a folder without an order; names of folders in it mean nothing.
        apart: the labelled images, test images among them, which must not be met twice: neither in their folders, nor,
            since a table may name files anywhere, file by file.

    Raises:
        UserError: no such folder, no image in it, or images of the data set itself in it, links to them included.
    """
    if not root.is_dir():
        raise UserError(f"expected a folder of images at --data.unlabelled {root}, but there is none")
    expected = (
        f"expected --data.unlabelled {root} to be apart from the images of --data.root, labelled ones and test images"
    )
    whole = root.resolve()
    for other in (pixels.root.resolve() for pixels in apart):
        if whole == other or whole in other.parents or other in whole.parents:
            raise UserError(f"{expected}, but one lies in the other ({other}); move it")
    if not (found := _images(root)):
        raise UserError(f"expected images in --data.unlabelled {root}, but found none")
    known = {file for pixels in apart for file in _resolved(pixels.paths)}
    if both := [path for path, file in zip(found, _resolved(found), strict=True) if file in known]:
        raise UserError(
            f"{expected}, but {len(both)} of its {len(found)} files are among them, such as {both[0]}; move them"
        )
    return found


def _resolved(paths: Sequence[Path]) -> list[str]:
    """Each file without links on its way; every folder is asked once, for there may be millions of files."""
    folders = {folder: os.path.realpath(folder) for folder in {path.parent for path in paths}}
    return [
        os.path.realpath(path) if path.is_symlink() else os.path.join(folders[path.parent], path.name) for path in paths
    ]


def class_folders(root: Path, class_names: tuple[str, ...] | None = None) -> Samples:
    """The images of ``ROOT/CLASS``, at any depth; ``class_names`` are those of the training images, if these are not.

    Raises:
        UserError: fewer than two classes, one without images, or one that the training images lack.
    """
    found = folders_in(root)
    names = class_names or found
    if len(names) < 2:
        raise UserError(
            f"expected one folder for each of at least two classes in {root}, but found {len(names)}"
            + (f" ({names[0]})" if names else "")
            + f"; put the images into {root / 'CLASS'}, or give another --data.root"
        )
    if strange := sorted(set(found) - set(names)):
        raise UserError(f"expected {root} to hold the classes of the training images, but found {strange[0]!r} too")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = _images(root / name)
        if not files and class_names is None:
            raise UserError(f"expected images in {root / name}, but found none; remove the folder or fill it")
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise UserError(f"expected images in {root}, but found none; remove the folder or fill it")
    return numbered(FilePixels(paths, root), labels, names)
