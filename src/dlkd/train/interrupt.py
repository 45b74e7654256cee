"""SIGTERM and Ctrl-C end a run between two steps, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RESUMABLE = 75
"""Exit status of a run that was told to stop and can go on with ``--resume`` (EX_TEMPFAIL of sysexits.h)."""


class Interrupted(Exception):
    """The run was told to stop; its checkpoint is written."""


class Terminated(KeyboardInterrupt):
    """SIGTERM where nothing has to be finished first."""


@contextmanager
def terminated_by_exception() -> Iterator[None]:
    """SIGTERM raises :class:`Terminated` in the block, so that what is half done is cleared up."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """Notes SIGTERM and SIGINT while the block runs; a second Ctrl-C ends at once.

    A signal that came when the block had nothing left to stop is passed on at its end: to who runs several of them one
    after the other it says the same.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self.signal is not None and raised is None:
            signal.raise_signal(self.signal)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def __bool__(self) -> bool:
        return self.signal is not None
