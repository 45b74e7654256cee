"""Answers as rows of CSV or lines of JSON, written as they come."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from dlkd.errors import UserError
from dlkd.export.predictor import Answer
from dlkd.files import clean_temporaries

Write = Callable[[Answer], None]


@contextlib.contextmanager
def rows_to(path: Path | None, top: int) -> Iterator[Write]:
    """Where answers go: ``.csv``, ``.jsonl``, or lines of JSON on standard output where there is no path.

    A file has its name only once it is whole.

    Args:
        path: of the file.
        top: classes of each row, at most.

    Raises:
        UserError: it cannot be written.
    """
    if path is None:
        yield lambda answer: _line(sys.stdout, answer)
        sys.stdout.flush()
        return
    name: str | None = None
    try:
        clean_temporaries(path.parent, path.name)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        # Bytes of a file name that are no UTF-8 stay what they are.
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            yield _table(file, top) if path.suffix == ".csv" else lambda answer: _line(file, answer)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
        name = None
    except OSError as error:
        raise UserError(f"could not write {path}: {error.strerror or error}") from error
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _table(file: TextIO, top: int) -> Write:
    writer = csv.writer(file, lineterminator="\n")
    more = [f"{what}_{k}" for k in range(2, top + 1) for what in ("label", "confidence")]
    writer.writerow(["path", "label", "confidence", *more, "error"])

    def write(answer: Answer) -> None:
        said: list[Any] = [value for label, share in answer.top for value in (label, f"{share:.6g}")]
        said += [""] * (2 * top - len(said))
        writer.writerow([str(answer.path), *said, answer.error or ""])

    return write


def _line(file: TextIO, answer: Answer) -> None:
    label, confidence = answer.top[0] if answer.top else (None, None)
    values = {
        "path": str(answer.path),
        "label": label,
        "confidence": confidence,
        "top": [{"label": each, "confidence": share} for each, share in answer.top],
        "error": answer.error,
    }
    # ASCII: a name that is no UTF-8 is escaped, and read back as the same bytes.
    print(json.dumps(values), file=file)
