"""Files that a stranger may have made are read where they are ordinary: pipes and devices have no end."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open an ordinary file to be read.

    Raises:
        OSError: there is none, or it is something else; a pipe that nobody writes to is not waited for.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError("it is no ordinary file")
    return os.fdopen(handle, "rb")


def read_regular(path: Path, limit: int) -> bytes:
    """All of an ordinary file of at most ``limit`` bytes.

    Raises:
        OSError: see :func:`open_regular`.
        ValueError: it is larger.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit >> 20} MB")
    return content


def unpacked_bytes(path: Path) -> int:
    """What a zip archive says it unpacks to; 0 for any other file."""
    if not zipfile.is_zipfile(path):
        return 0
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def check_fits_in_memory(path: Path) -> None:
    """Refuse a zip archive that would not fit into the memory of this machine once it is unpacked.

    Raises:
        ValueError: it would not.
    """
    if not hasattr(os, "sysconf"):
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if (unpacked := unpacked_bytes(path)) > memory // 2:
        raise ValueError(f"it would unpack to {unpacked / 1e9:.1f} GB, more than half of the memory of this machine")
