"""Docstrings name things as ``:func:`kl_divergence```; on the site such a name is a link where it has a place.

Blocks that reStructuredText marks by ``::`` or ``.. code-block::`` are indented, and Markdown takes that for code.
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

ROLE = re.compile(r":(?:func|class|meth|mod|data|attr|exc):`~?([\w.]+)`")
LITERAL = re.compile(r"^[ ]*(?:\.\. code-block::.*|::)\n|(?<=\w:):$", re.MULTILINE)


class Roles(Extension):
    """Turn roles into optional links: where nothing has that name, the name stays as code."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring:
            text = LITERAL.sub("", obj.docstring.value)
            obj.docstring.value = ROLE.sub(lambda role: linked(role[1], obj), text)


def linked(name: str, obj: Object) -> str:
    """A link to what ``name`` means in the scope of ``obj``."""
    try:
        path = obj.resolve(name)
    except Exception:  # a name of another library, or of a module that is not imported there
        path = name
    return f'<autoref identifier="{path}" optional><code>{name}</code></autoref>'
