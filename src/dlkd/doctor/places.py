"""Where files are to go: is there room, and may we write?"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dlkd.doctor.line import Line

LITTLE, NONE = 5e9, 1e8
"""Bytes: a note below the first, a problem below the second."""


def look(out: Path) -> list[Line]:
    """The lines about ``--out`` and the folder for temporary files, whose path is not said."""
    lines = [_place(f"--out {out}", out, "give another --out")]
    try:
        temporary = Path(tempfile.gettempdir())
    except OSError as error:
        advice = "set TMPDIR to a folder that can be written to"
        return [*lines, Line("place", f"temporary files: {error.strerror}", "problem", advice)]
    return [*lines, _place("temporary files", temporary, "set TMPDIR to another folder")]


def _place(name: str, path: Path, otherwise: str) -> Line:
    try:
        folder = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
        if not folder.is_dir():
            return Line("place", f"{name}: there is a file where a folder is to be", "problem", otherwise)
        free = shutil.disk_usage(folder).free
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"dlkd")
    except OSError as error:
        return Line("place", f"{name} cannot be written to: {error.strerror}", "problem", otherwise)
    what = f"{name}: can be written to, {free / 1e9:.1f} GB free"
    if free < NONE:
        return Line("place", what, "problem", f"make room, or {otherwise}")
    if free < LITTLE:
        return Line("place", what, "note", f"long runs and stores need more: make room, or {otherwise}")
    return Line("place", what)
