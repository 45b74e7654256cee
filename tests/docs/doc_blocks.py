"""The pages of the docs, and the blocks of code in them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LANGUAGES = {"sh", "python", "yaml"}
"""What is code. Blocks without a language show folders and files, ``json`` an answer, ``math`` formulas."""


class Block(NamedTuple):
    """A piece of code in a page."""

    page: str
    """From the root of the repository."""
    kind: str
    text: str

    @property
    def commands(self):
        """The command lines of a shell block as words, continued lines joined and comments left out."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def pages():
    """The README and all pages of the docs."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page):
    """All fenced blocks of a page, given by its path."""
    name = page.relative_to(ROOT).as_posix()
    return [Block(name, kind, text) for kind, text in FENCE.findall(page.read_text(encoding="utf-8"))]
