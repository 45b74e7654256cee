"""From the name of a data set to what reads it."""

from __future__ import annotations

import difflib
from pathlib import Path

from dlkd.data.sources.arrays import cifar, digits, npz
from dlkd.data.sources.folders import folder
from dlkd.data.sources.huggingface import hugging_face
from dlkd.data.sources.objects import from_factory
from dlkd.data.sources.official import OFFICIAL, official
from dlkd.data.sources.shards import webdataset
from dlkd.data.sources.source import Source
from dlkd.data.sources.table import table
from dlkd.errors import UserError

NAMES = ("digits", "cifar10", "cifar100", *OFFICIAL, "folder", "npz", "table", "webdataset")
HUB = "hf:"


def check_source_name(name: str) -> None:
    """Raise UserError where nothing reads a data set of this name."""
    if name in NAMES or (name != HUB and ":" in name):
        return
    if Path(name).exists():
        raise UserError(f"expected a kind of data as --data.name; give --data.name folder --data.root {name}")
    near = difflib.get_close_matches(name, NAMES, n=1)
    raise UserError(
        f"expected --data.name to be one of {', '.join(NAMES)}, hf:NAME_OR_FOLDER or package.module:factory, "
        f"but got {name!r}" + (f"; did you mean {near[0]}?" if near else "")
    )


def in_folders(name: str) -> bool:
    """Whether the images of a data set are files in folders, to which more can be added."""
    return name in OFFICIAL or name in ("folder", "table")


def has_columns(name: str) -> bool:
    """Whether a data set has columns that can be named."""
    return name == "table" or name.startswith(HUB)


def open_source(
    name: str,
    root: Path,
    *,
    download: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Source:
    """The images and labels of a data set as its makers give them.

    Args:
        name: one of ``NAMES``, ``hf:NAME_OR_FOLDER``, or ``package.module:factory``.
        root: its folder, file or, of archives, pattern.
        download: fetch what is missing, where somebody gives it.
        image_column: of a table or a Hugging Face set.
        label_column: the same, of its labels.

    Raises:
        UserError: unknown, missing, damaged or empty data, fewer than two classes, labels out of range.
    """
    check_source_name(name)
    if name in OFFICIAL:
        return official(name, root, download)
    if name in ("cifar10", "cifar100"):
        return cifar(name, root, download)
    if name == "table":
        return table(root, image_column, label_column)
    if name.startswith(HUB):
        return hugging_face(name.removeprefix(HUB), download, image_column, label_column)
    if ":" in name:
        return from_factory(name, root)
    return {"digits": lambda _: digits(), "folder": folder, "npz": npz, "webdataset": webdataset}[name](root)
