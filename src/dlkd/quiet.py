"""Say only what went wrong: lines of progress are held back, in this process and in those that it starts."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

_REMARK = re.compile(r"(note|warning|problem)\b")


class _Sieve(io.TextIOBase):
    """Passes on the lines that ``keep`` wants."""

    def __init__(self, to: TextIO, keep: Callable[[str], bool]) -> None:
        self._to, self._keep, self._line = to, keep, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if self._keep(line):
                self._to.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._to.flush()

    def end(self) -> None:
        """What is left is a line, too."""
        if self._line:
            self.write("\n")
        self.flush()


def _is_remark(line: str) -> bool:
    return _REMARK.match(line) is not None


def _is_no_detail(line: str) -> bool:
    return not line[:1].isspace()


@contextlib.contextmanager
def quietly(*, out: bool = True) -> Iterator[None]:
    """Of standard output only remarks are left in the block, of standard error what is not indented, as progress is.

    Args:
        out: false leaves standard output alone, where it is the result.
    """
    error, output = _Sieve(sys.stderr, _is_no_detail), _Sieve(sys.stdout, _is_remark)
    with contextlib.ExitStack() as stack:
        stack.callback(error.end)
        stack.enter_context(contextlib.redirect_stderr(error))
        if out:
            stack.callback(output.end)
            stack.enter_context(contextlib.redirect_stdout(output))
        yield


def is_quiet() -> bool:
    """Was progress not to be said?"""
    return isinstance(sys.stderr, _Sieve)
