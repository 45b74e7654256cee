"""Code of the user's own is named on the command line, never by a file alone.

``package.module:name`` is imported and called. A recipe, a run or a store that a stranger made could so run anything
that is installed: ``data.name: os:system`` with a command as ``data.root``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

from dlkd.errors import UserError

LOOKED_UP = {"method": (), "data.name": ("hf",)}
"""What may stand before a colon without being imported, by the option that names code."""
MODELS = ("cifar", "timm", "torchvision")
"""The same of every other ``name``: those are of models."""


def check_named_code(options: Any, arguments: Sequence[str]) -> None:
    """Refuse code that a file names and the command line does not.

    Args:
        options: the dataclass of the command, recipes and settings of a run included.
        arguments: as the user typed them.

    Raises:
        UserError: what would be imported, and which option says that it may.
    """
    for option, code in _named(options, ""):
        if not any(code in re.split(r"[][=+,'\" ]", argument) for argument in arguments):
            raise UserError(
                f"expected --{option} {code:.80} on the command line, but it stands in a file alone: it would be "
                "imported and run; if you trust it, give it there as well"
            )


def _named(options: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(options):
        value, option = getattr(options, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from _named(value, f"{option}.")
        elif field.name in ("name", "method"):
            for name in value if isinstance(value, list) else [value]:
                # A method may be made of several parts: dlkd+my_module:MINE.
                parts = name.split("+") if isinstance(name, str) else []
                yield from ((option, part) for part in parts if _is_code(part, LOOKED_UP.get(option, MODELS)))


def _is_code(name: str, looked_up: Sequence[str]) -> bool:
    before, colon, _ = name.partition(":")
    return bool(colon) and before not in looked_up
