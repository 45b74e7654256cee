"""The exception that means "the user can mend this": shown as one line, exit code 2; and how a command says no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class UserError(Exception):
    """Bad input. The message says what was expected, what was found and what to do."""


class Verdict(SystemExit):
    """The work is done, and its answer is no: exit code 1.

    Args:
        result: what was found.
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        super().__init__(1)
        self.result = result


def printable(text: str) -> str:
    """``text`` without what moves a terminal: a stranger's names may hold line breaks and escape codes."""
    # Bytes of a file name that are no UTF-8 stay as they are; the terminal's encoder spells them out.
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else "?" for c in text)


def first_few(names: Sequence[str], shown: int = 3) -> str:
    """The first few of perhaps many names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def first_line(error: BaseException) -> str:
    """The first line of the message of ``error``, or its type where it has none: a message to the user is one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
