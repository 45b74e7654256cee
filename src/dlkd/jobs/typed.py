"""Options out of a file, of the kinds that they should be."""

from __future__ import annotations

from typing import TypeVar

from jsonargparse import ArgumentParser

from dlkd.plain_yaml import plain_values

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
