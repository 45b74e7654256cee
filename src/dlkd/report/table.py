"""A table of columns as the bytes of a CSV or Parquet file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import numpy.typing as npt

from dlkd.errors import UserError


def check_table(kind: str) -> None:
    """Say before hours of work that a table of this kind cannot be written.

    Raises:
        UserError: a library is not installed.
    """
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise UserError("a Parquet table needs pyarrow: pip install 'dlkd[parquet]', or write a .csv")


def table_bytes(columns: Mapping[str, npt.NDArray[Any]], kind: str) -> bytes:
    """``csv`` or ``parquet``; the latter needs pyarrow. Bytes of a path that are no text stay what they are in a CSV
    file, and are escaped in a Parquet one."""
    if kind == "parquet":
        import pyarrow
        from pyarrow import parquet

        sink = io.BytesIO()
        arrays = {name: pyarrow.array(_text(values.tolist())) for name, values in columns.items()}
        parquet.write_table(pyarrow.table(arrays), sink)
        return sink.getvalue()
    buffer = io.StringIO()
    writer = table_writer(buffer)
    writer.writerow(columns)
    writer.writerows(zip(*(values.tolist() for values in columns.values()), strict=True))
    return buffer.getvalue().encode(errors="surrogateescape")


class Text(Protocol):
    """What text can be written to."""

    def write(self, text: str, /) -> object:
        """Add ``text``."""


def table_writer(file: Text) -> Any:
    """A ``csv.writer`` whose lines end with a line feed, and that puts names with any line break into quotes."""
    # Older ones put a carriage return into quotes only where it is in their own end of a line.
    return csv.writer(_Lines(file), lineterminator="\r\n")


class _Lines:
    def __init__(self, file: Text) -> None:
        self._file = file

    def write(self, row: str) -> None:
        """A whole row: that is how a ``csv.writer`` writes."""
        self._file.write(row.removesuffix("\r\n") + "\n")


def _text(values: list[Any]) -> list[Any]:
    def readable(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")

    return [readable(value) for value in values]
