"""Files are written whole or not at all, and nobody's folder is emptied by accident."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from dlkd.errors import UserError

MARKER = "run.json"
"""The file by which a folder is known to be a run of ours."""


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write through a temporary file in the same folder, flushed to disk, then renamed."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise UserError(f"could not write {path}: {error.strerror}; is the disk full?") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def new_run_folder(path: Path, *, overwrite: bool, card: dict[str, object]) -> None:
    """Make an empty run folder with its card, or say why not.

    Raises:
        UserError: the folder is not empty and ``overwrite`` is not set, or it holds something that
            is no run of ours (never deleted), or it cannot be written.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not (path / MARKER).is_file():
                raise UserError(
                    f"expected --out {path} to be a new or empty folder, but found files that are no run "
                    "of dlkd; choose another folder"
                )
            if not overwrite:
                raise UserError(f"{path} holds a run already; give --overwrite to replace it, or another --out")
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
        write_atomic(path / MARKER, json.dumps(card, indent=2, sort_keys=True) + "\n")
    except OSError as error:
        raise UserError(f"could not write to --out {path}: {error.strerror}; choose another folder") from error
