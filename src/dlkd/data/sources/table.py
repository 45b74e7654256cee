"""A CSV or Parquet table of paths, labels and perhaps splits."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from dlkd.data.pixels import FilePixels
from dlkd.data.samples import Samples
from dlkd.data.sources.source import Source, class_numbers, classes_of, numbered, there, which_part
from dlkd.errors import UserError, first_line

PATH_COLUMNS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path")
LABEL_COLUMNS = ("label", "class", "class_name", "target", "category")
SPLIT_COLUMNS = ("split", "set", "part", "partition")


def table(path: Path, image_column: str | None = None, label_column: str | None = None) -> Source:
    """The images that a table names, one row each.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``; image paths in it are relative to its folder, or absolute.
        image_column: the column of paths; by default ``path``, ``file``, ``filename``, …
        label_column: the column of labels, names or numbers; by default ``label``, ``class``, ``target``, …
            A column ``split`` (or ``set``, ``part``) says train, test or val; val rows are the test images of a table
            without test rows, and left out of one with them.

    Raises:
        UserError: no such table or column, an unknown split, a file that is not there, fewer than two classes.
    """
    columns = read_table(path)
    paths = [path.parent / str(value) for value in _column(columns, image_column, PATH_COLUMNS, "image", path)]
    labels = _column(columns, label_column, LABEL_COLUMNS, "label", path)
    for row, (value, file) in enumerate(zip(labels, there(paths), strict=True), 1):
        if not file:
            raise UserError(f"row {row} of {path} names {paths[row - 1]}, but there is no such file")
        if value is None or value == "":
            raise UserError(f"expected a label in every row of {path}, but row {row} has none")
    split = next((name for name in columns if name.lower() in SPLIT_COLUMNS), None)
    rows = {"train": list(range(len(paths)))} if split is None else _parts(columns[split], path)
    names = classes_of((labels[k] for k in rows["train"]), path)

    def part(chosen: list[int]) -> Samples:
        wanted = class_numbers([labels[k] for k in chosen], names, path)
        return numbered(FilePixels([paths[k] for k in chosen], path.parent), wanted, names)

    test, left_out = rows.get("test", rows.get("val")), rows.get("val") if "test" in rows else None
    remarks = (f"{len(left_out)} rows of {path.name} are neither train nor test and were left out",) if left_out else ()
    return Source(part(rows["train"]), None if test is None else part(test), remarks)


def read_table(path: Path, option: str = "--data.root") -> dict[str, Sequence[object]]:
    """The columns of a ``.csv``, ``.tsv`` or ``.parquet`` file as they stand.

    Raises:
        UserError: no such file, of another kind, or damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".parquet"):
        raise UserError(f"expected {option} to be a .csv, .tsv or .parquet file, but got {path}")
    if not path.is_file():
        raise UserError(f"expected a table at {path}, but there is none; give it as {option}")
    try:
        if suffix == ".parquet":
            from pyarrow import parquet

            found = parquet.read_table(path)
            return {name: found.column(name).to_pylist() for name in found.column_names}
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
            header, *rows = [row for row in reader if row]
        if short := next((k for k, row in enumerate(rows, 1) if len(row) != len(header)), None):
            raise ValueError(f"row {short} has {len(rows[short - 1])} fields, the first line {len(header)}")
        return {name: [row[k] for row in rows] for k, name in enumerate(header)}
    except ImportError as error:
        raise UserError("expected pyarrow for a .parquet table; pip install 'dlkd[parquet]'") from error
    except Exception as error:  # csv, pyarrow and text decoders each have errors of their own
        raise UserError(f"{path} is damaged or no table: {first_line(error)}") from error


def _column(
    columns: dict[str, Sequence[object]], asked: str | None, known: tuple[str, ...], what: str, path: Path
) -> Sequence[object]:
    if asked is None:
        named = {name.lower(): name for name in reversed(columns)}
        asked = next((named[name] for name in known if name in named), None)
    if asked is None or asked not in columns:
        raise UserError(
            f"expected a column {asked or known[0]!r} in {path}, but found {', '.join(columns)}; "
            f"name one as --data.{what}_column"
        )
    return columns[asked]


def _parts(values: Sequence[object], path: Path) -> dict[str, list[int]]:
    """Rows of each part."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        if (part := which_part(str(value))) is None:
            raise UserError(f"expected train, test or val as the split in {path}, but row {row + 1} says {value!r}")
        rows.setdefault(part, []).append(row)
    if "train" not in rows:
        raise UserError(f"expected training images in {path}, but no row says train")
    return rows
