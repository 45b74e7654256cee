"""The contact sheet: one HTML file to look through what an audit found, and to say which labels are wrong."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

FORMAT = 1
"""Of the exported decisions."""

DIGITS = 5
"""Significant digits of a number on the sheet: the file stays small, and nobody looks at more."""

LARGEST_ID = 2**53 - 1
"""JavaScript's numbers are exact up to here."""

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF")
_TEMPLATES = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
)


@dataclass(frozen=True)
class Sheet:
    """What the sheet shows: columns, one value for each of N images.

    Raises:
        ValueError: columns of different lengths, an id twice, a class or an action without a name, a thumbnail of
            a row that is not there or in another format than JPEG, PNG and WebP.
    """

    title: str
    lead: str
    warning: str
    """Shown prominently at the top; empty: nothing to warn of."""
    key: str
    """Names the audit: decisions are kept by the browser, exported and read back under it."""
    class_names: Sequence[str]
    ids: npt.NDArray[np.int64]
    """[N], each once."""
    given: npt.NDArray[np.int64]
    """[N] class number, -1 for none; so for the next three."""
    suggested: npt.NDArray[np.int64]
    """[N] the likeliest class by teacher and given label together: shown beside the given one, filtered by, and the
    right one of a label that is marked wrong."""
    teacher: npt.NDArray[np.int64]
    probe: npt.NDArray[np.int64]
    numbers: Mapping[str, npt.NDArray[np.floating]]
    """Name → [N], in the order shown. ``score``, low where the label is suspicious, sorts the sheet at first; it and
    ``distance`` are on every card, the others on the enlarged one. What is not finite counts as missing."""
    action: npt.NDArray[np.int64]
    """[N] index into ``actions``."""
    actions: Sequence[str]
    """The first one means that nothing is to be done."""
    paths: Sequence[str] | None
    """[N] of the image files, relative to the folder of the sheet; an empty one: no file."""
    thumbnails: Mapping[int, bytes]
    """Row → the bytes of a JPEG, PNG or WebP file."""

    def __post_init__(self) -> None:
        columns: dict[str, tuple[npt.NDArray[np.int64], int]] = {
            "given": (self.given, len(self.class_names)),
            "suggested": (self.suggested, len(self.class_names)),
            "teacher": (self.teacher, len(self.class_names)),
            "probe": (self.probe, len(self.class_names)),
            "action": (self.action, len(self.actions)),
        }
        lengths = {name: len(column) for name, (column, _) in columns.items()}
        lengths |= {name: len(values) for name, values in self.numbers.items()}
        lengths |= {} if self.paths is None else {"paths": len(self.paths)}
        for name, length in lengths.items():
            if length != len(self.ids):
                raise ValueError(f"expected {name} to have {len(self.ids)} values like ids, but got {length}")
        for name, (column, names) in columns.items():
            lowest = 0 if name == "action" else -1
            wrong = column[(column < lowest) | (column >= names)]
            if len(wrong):
                raise ValueError(f"expected {name} to be from {lowest} to {names - 1}, but got {wrong[0]}")
        if len(np.unique(self.ids)) != len(self.ids):
            raise ValueError("expected ids to be different from each other, but got one of them twice")
        if len(self.ids) and not -LARGEST_ID <= self.ids.min() <= self.ids.max() <= LARGEST_ID:
            raise ValueError(f"expected ids to be at most {LARGEST_ID} in size, but got {np.abs(self.ids).max()}")
        for row, picture in self.thumbnails.items():
            if not 0 <= row < len(self.ids):
                raise ValueError(f"expected thumbnails of rows 0 to {len(self.ids) - 1}, but got row {row}")
            if not picture.startswith(_PICTURES):
                raise ValueError(f"expected thumbnail {row} to be JPEG, PNG or WebP, but it begins {picture[:4]!r}")

    def render(self) -> str:
        """The page; it needs no other file, and shows the image files themselves where ``paths`` lead to them."""
        data = {
            "format": FORMAT,
            "key": self.key,
            "classes": list(self.class_names),
            "actions": list(self.actions),
            "ids": self.ids.tolist(),
            "given": self.given.tolist(),
            "suggested": self.suggested.tolist(),
            "teacher": self.teacher.tolist(),
            "probe": self.probe.tolist(),
            "action": self.action.tolist(),
            # Pairs, because the keys of an object need not keep their order in JavaScript.
            "numbers": [[name, _short(values.tolist())] for name, values in self.numbers.items()],
            "paths": None if self.paths is None else list(self.paths),
        }
        thumbnails = {int(row): base64.b64encode(picture).decode() for row, picture in self.thumbnails.items()}
        page = _TEMPLATES.get_template("sheet.html").render(
            sheet=self, data=_script(data), thumbnails=_script(thumbnails)
        )
        # A file name in the title may hold bytes that are no text, and those cannot be written as UTF-8.
        return page.encode(errors="backslashreplace").decode()


def _short(values: Iterable[float]) -> list[float | None]:
    """Rounded to ``DIGITS``; JSON has no word for what is not finite."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values]


def _script(content: object) -> Markup:
    """``content`` as JSON in ASCII that nothing in it can end: no name closes the script element around it."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
