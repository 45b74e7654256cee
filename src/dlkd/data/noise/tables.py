"""Label files and transition matrices as they stand on disk: named columns, nothing looked into yet."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlkd.arrays import read_arrays
from dlkd.data.noise.official_pt import read_pt
from dlkd.errors import UserError, first_line

OPTION = "--data.noise_file"
ALONE = "labels"
"""Name of the column in a file that has one without a name."""
HEADERS = {"label", "labels", "noisy_label", "given_label", "class"}
"""What the first line of a table of one column may say; anything else is a label."""

Column = npt.NDArray[Any] | list[Any]


def read_columns(path: Path) -> dict[str, Column]:
    """The columns of a label file: one of ``.npz``, ``.pt``, ``.npy``, ``.csv``, ``.json`` or ``.txt``.

    Several have names: the arrays of an ``.npz``, the keys of a dictionary in a ``.json`` or ``.pt``, the first line of
    a ``.csv``. One alone needs none.

    Raises:
        UserError: no such file, of another kind, damaged, or no columns of labels.
    """
    found = _opened(
        path, {"npz": read_arrays, "pt": read_pt, "npy": _npy, "csv": _csv_columns, "json": _json, "txt": _lines}
    )
    columns = found if isinstance(found, dict) else {ALONE: found}
    if strange := [name for name, value in columns.items() if not isinstance(value, np.ndarray | list)]:
        raise UserError(f"expected {OPTION} {path} to hold lists of labels, but {strange[0]!r} is none")
    return {str(name): value for name, value in columns.items()}


def read_matrix(path: Path) -> npt.NDArray[np.float64]:
    """The numbers of a ``.csv`` (without names), ``.npy`` or ``.json`` (a list of rows) file as they stand.

    Raises:
        UserError: no such file, of another kind, damaged, or no table of numbers.
    """
    found = _opened(path, {"csv": _rows, "npy": _npy, "json": _json})
    try:
        return np.asarray(found, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"expected {OPTION} {path} to hold rows of numbers, all of the same length, and nothing else "
            f"({first_line(error)})"
        ) from error


def _opened(path: Path, kinds: dict[str, Any]) -> Any:
    if not path.is_file():
        raise UserError(f"expected a file at {OPTION} {path}, but there is none")
    read = kinds.get(path.suffix.lower().removeprefix("."))
    if read is None:
        raise UserError(f"expected {OPTION} to end with {', '.join(f'.{kind}' for kind in kinds)}, but got {path}")
    try:
        return read(path)
    except UserError:
        raise
    except Exception as error:  # each library has errors of its own, as those of zipfile, pickle and struct
        raise UserError(f"{OPTION} {path} is damaged or no plain {path.suffix} file: {first_line(error)}") from error


def _npy(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if header(file)[2].hasobject:
            raise ValueError("it holds Python objects, which could run code; CIFAR-N has the same labels in a .pt file")
    found: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    return found


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8-sig"))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]


def _rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [[cell.strip() for cell in row] for row in csv.reader(file) if row]


def _csv_columns(path: Path) -> dict[str, Column]:
    rows = _rows(path)
    if not rows:
        return {ALONE: []}
    head = rows[0]
    if len(head) == 1 and head[0].lower() not in HEADERS:
        head, rows = [ALONE], [[ALONE], *rows]
    if uneven := next((k for k, row in enumerate(rows) if len(row) != len(head)), None):
        raise ValueError(f"row {uneven + 1} has {len(rows[uneven])} cells instead of {len(head)}")
    return {name: [row[k] for row in rows[1:]] for k, name in enumerate(head)}
