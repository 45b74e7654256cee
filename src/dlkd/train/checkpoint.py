"""Checkpoints that survive a kill, a full disk and a flipped bit: the last two are kept, each with its digest.

A file is one ASCII line ``dlkd-checkpoint 1 <sha256 of the payload> <bytes in the payload>`` and the payload,
which is what ``torch.save`` writes. Reading never runs code from the file (``weights_only``).
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlkd.errors import UserError
from dlkd.files import write_atomic
from dlkd.regular import open_regular

CURRENT = "checkpoint.pt"
PREVIOUS = "checkpoint.previous.pt"

_PLAIN = (bool, int, float, str, type(None), torch.Size, torch.dtype, torch.device)
_HEADER_LIMIT = 128
_Stamp = tuple[int, ...]
_written: dict[Path, _Stamp] = {}
"""The checkpoints that this process wrote last, and what the file system said of them: these need not be read."""


class LoadedCheckpoint(NamedTuple):
    """A state and where it came from."""

    state: dict[str, Any]
    """On the CPU."""
    path: Path
    """The file that was read."""
    warning: str | None
    """One line for the user when this is not the newest file, or None."""


class _Damaged(Exception):
    """Why a file is no good, in words that fit after its name."""


def save_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Write ``checkpoint.pt``; the one before becomes ``checkpoint.previous.pt``.

    Killed at any point, the folder still holds a good checkpoint if it held one before. A current file that
    is damaged never takes the place of a good previous one.

    Raises:
        TypeError: ``state`` holds something that could not be read back safely; the message says where.
        UserError: the file cannot be written (full disk); both old files are as they were.
    """
    _check_plain(state, "state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    current = folder / CURRENT
    keep = folder / PREVIOUS if _is_as_written(current) or _is_good(current) else None
    write_atomic(current, b"".join((_header(payload), payload)), keep)
    _written[current.absolute()] = _stamp(current)


def load_checkpoint(folder: Path) -> LoadedCheckpoint | None:
    """The newest good checkpoint of ``folder``, or None when it has no checkpoint at all.

    Raises:
        UserError: there are checkpoint files and none of them is good.
    """
    problems: list[str] = []
    found = False
    for path in (folder / CURRENT, folder / PREVIOUS):
        try:
            state = _read(path)
        except FileNotFoundError:
            problems.append(f"{path} is missing")
        except (_Damaged, OSError) as error:
            found = True
            problems.append(f"{path} {error}" if isinstance(error, _Damaged) else f"{path}: {error.strerror or error}")
        else:
            warning = f"{problems[0]}; going on from {path.name}, the checkpoint before it" if problems else None
            return LoadedCheckpoint(state, path, warning)
    if not found:
        return None
    raise UserError(f"expected a good checkpoint in {folder}, but {', and '.join(problems)}; start the run anew")


def _header(payload: bytes | memoryview) -> bytes:
    return f"dlkd-checkpoint 1 {hashlib.sha256(payload).hexdigest()} {len(payload)}\n".encode("ascii")


def _payload(path: Path) -> memoryview:
    """The payload of a file whose length and digest are right.

    Raises:
        _Damaged: they are not.
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        data = file.read()
    start = data.find(b"\n", 0, _HEADER_LIMIT) + 1
    payload = memoryview(data)[start:]
    # The header is made again and compared whole: no second spelling of the same numbers gets through.
    if start == 0 or data[:start] != _header(payload):
        raise _Damaged(f"is damaged (digest or length of its {len(data)} bytes is wrong)")
    return payload


def _stamp(path: Path) -> _Stamp:
    """Changes with every change of the file; of the same bytes written again, too."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _is_as_written(path: Path) -> bool:
    """Is the file the one that this process wrote last?"""
    try:
        return _written.get(path.absolute()) == _stamp(path)
    except OSError:
        return False


def _is_good(path: Path) -> bool:
    try:
        _payload(path)
    except (_Damaged, OSError):
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    payload = _payload(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; the digest is right, so the writer differed from us
        reason = (str(error).splitlines() or [""])[0]
        raise _Damaged(f"cannot be read by torch {torch.__version__} ({type(error).__name__}: {reason})") from error
    if not isinstance(state, dict):
        raise _Damaged(f"holds a {type(state).__name__} where a dict was expected")
    return state


def _check_plain(value: object, where: str) -> None:
    """Refuse at once what ``weights_only`` would refuse when the run is resumed, hours later."""
    if type(value) in (dict, OrderedDict):
        assert isinstance(value, dict)
        for key, item in value.items():
            _check_plain(key, f"{where} key {key!r}")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        assert isinstance(value, (list, tuple))
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif not isinstance(value, Tensor) and type(value) not in _PLAIN:
        raise TypeError(
            f"expected {where} to be a tensor, a number, text, None, or a dict, list or tuple of these, "
            f"but got {type(value).__module__}.{type(value).__qualname__}; turn it into one of them before saving"
        )
