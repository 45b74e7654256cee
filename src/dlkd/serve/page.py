"""The page: one HTML file, and the policy under which a browser runs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from dlkd.data.pixels import FORMATS

_TEMPLATES = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
)


def render(title: str, *, max_bytes: int, teacher: bool, ranked: bool, notes: Sequence[str]) -> tuple[str, str]:
    """The page and its Content-Security-Policy, which names its own script and style by their hashes.

    Args:
        title: the name of the model.
        max_bytes: of an upload, which the page looks at before it sends one.
        teacher: is there one to be asked?
        ranked: is a level the rank among the training views?
        notes: lines about what there is not.
    """
    data = Markup(json.dumps({"max_bytes": max_bytes, "ranked": ranked}))  # numbers and truths: nothing to escape
    page = _TEMPLATES.get_template("page.html").render(
        title=title, teacher=teacher, notes=notes, formats=", ".join(FORMATS), data=data
    )
    # A name may hold bytes that are no text, and those cannot be sent as UTF-8.
    page = page.encode(errors="backslashreplace").decode()
    script, style = (_hashes(tag, page) for tag in ("script", "style"))
    policy = (
        f"default-src 'none'; script-src {script}; style-src {style}; img-src blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _hashes(tag: str, page: str) -> str:
    """The texts of all elements ``tag`` as sources of the policy."""
    texts = re.findall(rf"<{tag}\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(t.encode()).digest()).decode()}'" for t in texts)
