"""Files are written whole or not at all, and by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from dlkd.errors import UserError

TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.tmp")
"""Names of the files that :func:`writing` renames once they are whole, to the group; a killed writer leaves one."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomic(path: Path, content: bytes | str, keep: Path | None = None) -> None:
    """Write a whole file; see :func:`writing`."""
    with writing(path, keep) as file:
        file.write(content)


class Unfinished:
    """A file that is being written, under another name than it will have."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def write(self, content: bytes | str) -> None:
        """Add ``content``; bytes of a file name that are no UTF-8 stay what they are.

        Raises:
            UserError: the disk is full, or gone.
        """
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        with _told(self._path):
            self._file.write(data)


@contextlib.contextmanager
def writing(path: Path, keep: Path | None = None) -> Iterator[Unfinished]:
    """Write through a temporary file in the same folder, flushed to disk, then renamed, where the block does not fail.

    With ``keep``, the file that was at ``path`` is renamed to ``keep`` first (same folder), once the new one
    is safely on disk: killed at any point, at least one of the two names holds a whole file.

    Raises:
        UserError: the file cannot be written; what was there before is as it was. What else the block raises is none of
            the file, and goes on as it is.
    """
    with _told(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        file = os.fdopen(handle, "wb")
        try:
            yield Unfinished(path, file)
            with _told(path):
                file.flush()
                os.fsync(file.fileno())
                file.close()
        finally:
            with contextlib.suppress(OSError):  # of what the block could not write, which is told already
                file.close()
        with _told(path):
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that only their owner may read
            if keep is not None and path.exists():
                os.replace(path, keep)
            os.replace(name, path)
            _sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tell in a line that the block could not write ``path``."""
    try:
        yield
    except OSError as error:
        hint = "is the disk full?" if error.errno in _FULL else "can this folder be written to?"
        raise UserError(f"could not write {path}: {error.strerror or error}; {hint}") from error


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    """Make renames last through a power cut; file systems that cannot sync a folder are left alone."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def write_json(path: Path, content: object) -> None:
    """Write ``content`` for people and programs; see :func:`write_atomic`."""
    write_atomic(path, json.dumps(content, indent=2, sort_keys=True) + "\n")


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Say before hours of work why ``path`` cannot be written."""
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already; give --overwrite to replace it, or another --out")
    if path.is_dir():
        raise UserError(f"expected --out to be a file, but {path} is a folder")
    if not path.parent.is_dir():
        raise UserError(f"expected the folder of --out {path} to exist; make it first")


def clean_temporaries(folder: Path, name: str = "*", *, alone: bool = False) -> None:
    """Remove the unfinished files that killed writers of ``name`` and, but for ``alone``, of ``name.*`` left in
    ``folder``.

    Call while nobody else may write them.
    """
    for path in folder.glob(f".{glob.escape(name) if alone else name}.*.tmp"):
        found = TEMPORARY.fullmatch(path.name)
        if found and (not alone or found[1] == name) and not path.is_dir():
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(file: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock file alone for the block; false where another process does and ``wait`` is not set.

    The lock of a process that dies is free again, whatever it leaves behind.

    Raises:
        OSError, NotImplementedError: the file cannot be made, or its file system has no locks.
    """
    lock = FileLock(file, timeout=-1 if wait else 0)
    try:
        # A lock is emptied when it is taken: a link in a stranger's folder may lead to a file of ours.
        if file.is_symlink() or file.parent.is_symlink():
            raise OSError("it is a link to another place")
        file.touch()  # raises where there can be none; the lock would try for ever
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextlib.contextmanager
def held_by_file(file: Path, *, wait: bool) -> Iterator[bool]:
    """As :func:`held`; the file goes at the end, and where there can be no locks the block goes on without one."""
    with contextlib.ExitStack() as stack:
        mine = True
        with contextlib.suppress(OSError, NotImplementedError):
            mine = stack.enter_context(held(file, wait=wait))
        if mine:
            stack.callback(file.unlink, missing_ok=True)
        yield mine
