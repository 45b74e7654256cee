"""Options out of values of YAML or of a command line, of the kinds that they should be."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, Generic, TypeVar

from jsonargparse import ArgumentParser, Namespace

from dlkd.errors import UserError
from dlkd.pages.explain import explain
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
        return kind(**parser.parse_object(values).as_dict())


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
        UserError: one value where a group is expected.
    """
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        value = values[field.name]
        nested = field.default_factory if field.default_factory is not dataclasses.MISSING else None
        default = nested() if nested is not None else None
        if dataclasses.is_dataclass(default):
            name = f"{prefix}{field.name}"
            if not isinstance(value, Namespace):
                raise UserError(f"expected {name} to be a group of options, but got {value!r}")
            value = instantiate(type(default), value, f"{name}.")
        arguments[field.name] = value
    return kind(**arguments)
