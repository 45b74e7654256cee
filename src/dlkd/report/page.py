"""Self-contained HTML pages: one table with pictures, or sections; everything from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dlkd.report.template import TEMPLATES

DENSITY = 1.5
"""Pixels of a picture for each pixel of the page: text stays sharp on dense screens."""


@dataclass(frozen=True)
class Picture:
    """A picture with its heading and what it shows."""

    title: str
    png: str
    """In base64."""
    words: str = ""
    chart: bool = False
    """Lines on white, which a dark page may turn into lines on black; photographs stay as they are."""
    alt: str = ""
    """What it shows, for those who do not see it; by default the title."""

    @property
    def width(self) -> int:
        """On the page, in its pixels; narrow pictures stand side by side."""
        # Bytes 16 to 19 of a PNG file are its width.
        return round(int.from_bytes(base64.b64decode(self.png[:32])[16:20], "big") / DENSITY)


def chart(png: str, title: str = "", words: str = "", alt: str = "") -> Picture:
    """A picture of lines on white."""
    return Picture(title, png, words, chart=True, alt=alt)


@dataclass(frozen=True)
class Page:
    """The content of a report."""

    title: str
    lead: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sentences: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    details: Mapping[str, str] = field(default_factory=dict)

    def render(self) -> str:
        """The page; nothing in it refers to another file."""
        return _rendered("page", self)


@dataclass(frozen=True)
class Table:
    """Rows of text, each led by its name."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    """Of a table that is folded away."""


@dataclass(frozen=True)
class Card:
    """A small image with lines below it."""

    lines: Sequence[str]
    alt: str
    src: str = ""
    """A data URL; empty where the image could not be opened."""
    small: bool = False
    """Of so few pixels that they are to be seen."""


@dataclass(frozen=True)
class Shelf:
    """Images with something in common."""

    title: str
    cards: Sequence[Card]
    words: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with what is below it, in this order."""

    title: str
    sentences: Sequence[str] = ()
    table: Table | None = None
    picture: Picture | None = None
    shelves: Sequence[Shelf] = ()
    more: Table | None = None
    """Folded away."""


@dataclass(frozen=True)
class Sections:
    """A report of many parts, with contents, a way past them, and a policy against whatever is not in the file."""

    title: str
    lead: str
    sections: Sequence[Section]
    sentences: Sequence[str] = ()

    def render(self) -> str:
        """The page; nothing in it refers to another file."""
        return _rendered("sections", self)


def _rendered(template: str, page: Page | Sections) -> str:
    return TEMPLATES.get_template(template).render(page=page)
