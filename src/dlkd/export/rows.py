"""Answers as rows of CSV or lines of JSON, written as they come."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dlkd.errors import UserError
from dlkd.export.predictor import Answer
from dlkd.files import clean_temporaries, held_by_file, writing
from dlkd.report.table import Text, table_writer

Write = Callable[[Answer], None]


@contextlib.contextmanager
def rows_to(path: Path | None, top: int) -> Iterator[Write]:
    """Where answers go: ``.csv``, ``.jsonl``, or lines of JSON on standard output where there is no path.

    A file has its name only once it is whole, and one process at a time writes it.

    Args:
        path: of the file.
        top: classes of each row, at most.

    Raises:
        UserError: it cannot be written, or another process is about to.
    """
    if path is None:
        yield lambda answer: _line(sys.stdout, answer)
        sys.stdout.flush()
        return
    with held_by_file(path.parent.resolve() / f".{path.name}.lock", wait=False) as mine:
        if not mine:
            raise UserError(f"another process is writing {path}; wait until it ends, or give another --out")
        with contextlib.suppress(OSError):  # who may not write there is told so by the file
            clean_temporaries(path.parent, path.name, alone=True)
        with writing(path) as file:
            yield _table(file, top) if path.suffix == ".csv" else lambda answer: _line(file, answer)


def _table(file: Text, top: int) -> Write:
    writer = table_writer(file)
    more = [f"{what}_{k}" for k in range(2, top + 1) for what in ("label", "confidence")]
    writer.writerow(["path", "label", "confidence", *more, "error"])

    def write(answer: Answer) -> None:
        said: list[Any] = [value for label, share in answer.top for value in (label, f"{share:.6g}")]
        said += [""] * (2 * top - len(said))
        writer.writerow([str(answer.path), *said, answer.error or ""])

    return write


def _line(file: Text, answer: Answer) -> None:
    label, confidence = answer.top[0] if answer.top else (None, None)
    values = {
        "path": str(answer.path),
        "label": label,
        "confidence": confidence,
        "top": [{"label": each, "confidence": share} for each, share in answer.top],
        "error": answer.error,
    }
    # ASCII: a name that is no UTF-8 is escaped, and read back as the same bytes.
    file.write(json.dumps(values) + "\n")
