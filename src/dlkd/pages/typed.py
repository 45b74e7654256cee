"""Options out of values of YAML or of a command line, of the kinds that they should be."""

from __future__ import annotations

import argparse
import dataclasses
import math
import types
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser, Namespace

from dlkd.errors import UserError
from dlkd.pages.explain import explain, in_words
from dlkd.pages.plain_yaml import plain_values

Kind = TypeVar("Kind")


def typed(kind: type[Kind], values: object) -> Kind:
    """A dataclass of options without groups, out of what YAML gave.

    Raises:
        Exception: whatever the parser says of an unknown option or a value of another kind.
    """
    if not isinstance(values, dict):
        raise TypeError(f"expected a group of options, but found {type(values).__name__}")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind)
    with plain_values():
        return instantiate(kind, parser.parse_object(values))


class TypedOptions(Generic[Kind]):
    """Reads pages of options into a dataclass with groups, many of them by one parser.

    Args:
        kind: the dataclass, whose groups are dataclasses too.
    """

    def __init__(self, kind: type[Kind]) -> None:
        self.kind = kind
        self._parser = ArgumentParser(exit_on_error=False)
        self._parser.add_class_arguments(kind)

    def __call__(self, values: dict[str, Any]) -> Kind:
        """The options of one page; what it does not name keeps its default.

        Raises:
            UserError: an unknown option, or a value of another kind.
        """
        try:
            with plain_values():
                parsed = self._parser.parse_object(values)
        except (argparse.ArgumentError, TypeError, ValueError, KeyError, RecursionError) as error:
            raise UserError(explain(str(error), self.kind)) from error
        return instantiate(self.kind, parsed)


def instantiate(kind: type[Kind], values: Namespace, prefix: str = "") -> Kind:
    """A dataclass of options out of parsed values, nested ones included.

    Raises:
        UserError: one value where a group is expected, or nothing where there has to be a value: a key of YAML with
            nothing behind it, which the parser lets pass.
    """
    arguments: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value, hint, name = values[field.name], hints[field.name], f"{prefix}{field.name}"
        if value is None and not _may_be_nothing(hint):
            raise UserError(
                f"expected --{name} to be {in_words(hint)}, but got nothing; give a value, or leave {field.name} out"
            )
        _check_size(name, value)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            if not isinstance(value, Namespace):
                raise UserError(f"expected --{name} to be a group of options, but got {value!r}")
            value = instantiate(hint, value, f"{name}.")
        arguments[field.name] = value
    return kind(**arguments)


LARGEST_INT, LARGEST_FLOAT = 10**9, 1e30
"""Nobody means more by an option, and what comes of it is an error far from here, or hours of nothing."""
LARGEST = {"threads": 1024, "workers": 1024, "masks": 1024, "pad": 4096}
"""Of some less."""
DRAWS = ("seed", "seeds", "draw")
"""Options that name a draw, and count nothing."""


def _check_size(name: str, value: object) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _check_size(name, item)
    last = name.rpartition(".")[2]
    if last in DRAWS or isinstance(value, bool):
        return
    most = LARGEST.get(last, LARGEST_INT)
    if isinstance(value, int) and abs(value) > most:
        raise UserError(f"expected --{name} to be at most {most:,}, but got {_short(value)}")
    if isinstance(value, float) and LARGEST_FLOAT < abs(value) < float("inf"):
        raise UserError(f"expected --{name} to be at most {LARGEST_FLOAT:g}, but got {value:g}")


def _short(value: int) -> str:
    """Python itself refuses to write thousands of digits."""
    return f"{value:,}" if abs(value) < 10**18 else f"one above 10^{int(math.log10(abs(value)))}"


def _may_be_nothing(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        return any(_may_be_nothing(part) for part in get_args(hint))
    return hint is Any or hint is type(None)
