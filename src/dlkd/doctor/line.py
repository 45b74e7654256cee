"""What the doctor says about one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dlkd.errors import printable

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Line:
    """One thing that was looked at.

    Args:
        part: version, extra, device, place or test.
        what: the thing, with what was found.
        status: a note is no fault; with a problem, something will not work.
        advice: what to do about it.
    """

    part: Literal["version", "extra", "device", "place", "test"]
    what: str
    status: Status = "ok"
    advice: str = ""

    def __str__(self) -> str:
        text = f"{self.what}; {self.advice}" if self.advice else self.what
        return printable(f"{self.status:<8} {self.part:<8} {text}")
