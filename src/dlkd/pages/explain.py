"""One line for the user out of what the parser says, which is written for programmers."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from pathlib import Path
from typing import Any

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def explain(message: str, options: type | None) -> str:
    """Say what was expected, what was found and, for an unknown option, which is the nearest.

    Args:
        message: of the parser; the wording differs between its versions, and what is not understood is passed on.
        options: the dataclass of the command, if one is known.
    """
    message = " ".join(message.split())
    if options is None:
        return message
    known = known_options(options)
    if found := re.search(r"arguments are required: (?:\w+\.)*(\w+)", message):
        return f"expected --{found[1]}, but it is missing"
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        if not found[1].startswith("--") or found[1] == "--":
            return f"expected options as --name value, but got {found[1]!r}"
        return _unknown(found[1].lstrip("-").split("=")[0], known)
    if found := re.search(r"Group '([\w.]+)' does not accept option '([\w.\-]+)'", message):
        return _unknown(f"{found[1]}.{found[2]}", known)
    if found := re.search(r"Option '([\w.\-]+)' is not accepted", message):
        return _unknown(found[1], known)
    if found := re.search(r"(?:accept option|[Kk]ey) [\"']([\w.\-]+)[\"']", message):
        if found[1] not in known:
            return _unknown(found[1], known)
        if dataclasses.is_dataclass(known[found[1]]):
            inner = next(name for name in known if name.startswith(f"{found[1]}."))
            return f"expected --{found[1]} to be a group of options, by full names such as --{inner}, or a YAML file"
        _, marker, value = message.rpartition("value:")
        but = f", but got {value.strip() or 'nothing'}" if marker else f"; {message}"
        return f"expected --{found[1]} to be {in_words(known[found[1]])}{but}"
    return message


def known_options(options: type, prefix: str = "") -> dict[str, Any]:
    """Every option by its full name, with its type; groups too, since YAML can name them."""
    hints = typing.get_type_hints(options)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        hint, name = hints[field.name], f"{prefix}{field.name}"
        found[name] = hint
        if dataclasses.is_dataclass(hint):
            assert isinstance(hint, type)
            found |= known_options(hint, f"{name}.")
    return found


def _unknown(name: str, known: dict[str, Any]) -> str:
    def likeness(candidate: str) -> float:
        ends = (x.rpartition(".")[2] for x in (name, candidate))
        return max(_ratio(name, candidate), _ratio(*ends))

    near = max(known, key=likeness)
    return f"there is no option --{name}" + (f"; did you mean --{near}?" if likeness(near) >= 0.6 else "")


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def in_words(hint: Any) -> str:
    """A type for people."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, inner))}" if len(inner) > 1 else str(inner[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part) for part in inner)
    if origin in (list, tuple):
        return f"a list, each {in_words(inner[0])}"
    if origin is dict or hint is dict:
        several = inner and inner[1] is not Any
        return f"a group of names, each {in_words(inner[1])}" if several else "a group of options"
    if hint is type(None):
        return "null"
    return "a group of options" if dataclasses.is_dataclass(hint) else _WORDS.get(hint, str(hint))
