"""What each process that prepares images is at, told when it dies or hangs over it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
from typing import Any

_board: Any = None
_slot = 0


class Watch:
    """A board in shared memory, on which every worker writes the position of the image that it is at.

    Args:
        workers: how many there are.
    """

    def __init__(self, workers: int) -> None:
        self._board = multiprocessing.RawArray(ctypes.c_int64, 2 * workers)

    def begin(self, worker: int) -> None:
        """Called in a worker: from now on :func:`note` writes for it."""
        global _board, _slot
        _board, _slot = self._board, 2 * worker
        _board[_slot] = os.getpid()

    def positions(self, message: str = "") -> list[int]:
        """Those that workers are at; of the workers whose process numbers a message names, if it names any."""
        found = {self._board[k]: self._board[k + 1] - 1 for k in range(0, len(self._board), 2)}
        named = found.keys() & set(map(int, re.findall(r"\d+", message.partition("pid")[2])))
        return [position for pid, position in found.items() if position >= 0 and (not named or pid in named)]


def note(position: int | None) -> None:
    """This process is at the image ``position``, or at none; nothing where nobody watches."""
    if _board is not None:
        _board[_slot + 1] = 0 if position is None else position + 1
