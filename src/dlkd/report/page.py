"""One self-contained HTML page: tables, sentences and pictures; everything from outside is escaped."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jinja2

DENSITY = 1.5
"""Pixels of a picture for each pixel of the page: text stays sharp on dense screens."""

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
    """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ page.title }}</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #8886}td{font-variant-numeric:tabular-nums}
.pictures{display:flex;flex-wrap:wrap;column-gap:1.5rem}section{max-width:100%}section p{margin:.4rem 0}
h2{font-size:1.2rem;margin:1.6rem 0 .4rem}img{max-width:100%;background:#fff;border-radius:4px}
pre{overflow-x:auto;font-size:13px}
summary{margin-top:1.6rem;cursor:pointer}</style>
<h1>{{ page.title }}</h1>
<p>{{ page.lead }}</p>
<table><tr>{% for name in page.columns %}<th scope="col">{{ name }}{% endfor %}</tr>
{% for row in page.rows %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>
{% endfor %}</table>
{% if page.sentences %}<ul>{% for line in page.sentences %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}

<div class="pictures">
{% for picture in page.pictures %}<section style="width:{{ picture.width }}px"><h2>{{ picture.title }}</h2>
{% if picture.words %}<p>{{ picture.words }}</p>{% endif %}

<img width="{{ picture.width }}" alt="{{ picture.title }}" src="data:image/png;base64,{{ picture.png }}"></section>
{% endfor %}</div>
{% for name, text in page.details.items() %}<details><summary>{{ name }}</summary><pre>{{ text }}</pre></details>
{% endfor %}</html>
"""
)


@dataclass(frozen=True)
class Picture:
    """A picture with its heading and what it shows."""

    title: str
    png: str
    """In base64."""
    words: str = ""

    @property
    def width(self) -> int:
        """On the page, in its pixels; narrow pictures stand side by side."""
        # Bytes 16 to 19 of a PNG file are its width.
        return round(int.from_bytes(base64.b64decode(self.png[:32])[16:20], "big") / DENSITY)


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
        return _PAGE.render(page=self)
