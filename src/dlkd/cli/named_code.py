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
from dlkd.pages.merge import nested

LOOKED_UP: dict[str, tuple[str, ...]] = {"method": (), "methods": (), "data.name": ("hf",)}
"""What may stand before a colon without being imported, by the option that names code."""
MODELS = ("cifar", "timm", "torchvision", "hf")
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
    for key, value in _values(options):
        option = f"{prefix}{key}"
        if dataclasses.is_dataclass(value) or isinstance(value, dict):
            yield from _named(value, f"{option}.")
        if key in ("name", "method", "methods"):
            for name in value if isinstance(value, (list, dict)) else [value]:
                # A method may be made of several parts: dlkd+my_module:MINE.
                parts = name.split("+") if isinstance(name, str) else []
                yield from ((option, part) for part in parts if _is_code(part, _looked_up(option)))


def _values(options: Any) -> Iterator[tuple[str, Any]]:
    """Of a dataclass, or of an open page of options, which may write ``data.name: x``."""
    if not isinstance(options, dict):
        yield from ((field.name, getattr(options, field.name)) for field in dataclasses.fields(options))
        yield from nested(getattr(options, "page_of_file", {})).items()
    else:
        yield from nested(options).items()


def _looked_up(option: str) -> tuple[str, ...]:
    """Options of a study stand within a group of it, as ``run.data.name``."""
    return next((words for end, words in LOOKED_UP.items() if f".{option}".endswith(f".{end}")), MODELS)


def _is_code(name: str, looked_up: Sequence[str]) -> bool:
    before, colon, _ = name.partition(":")
    return bool(colon) and before not in looked_up
