"""YAML that a stranger may have written: a page of options, whatever it would unfold to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

BYTES, DEPTH, NODES, CHARACTERS = 1 << 20, 32, 10_000, 10_000
"""Of the file; of groups within groups; of values, aliases written out; of one value."""


def read_plain(path: Path) -> Any:
    """The values in a YAML file, read without tags of Python.

    Raises:
        ValueError: more than a recipe needs (aliases of aliases are bombs), a key that stands twice in a group.
        Exception: whatever PyYAML says of a file that is broken.
    """
    with path.open("rb") as file:
        raw = file.read(BYTES + 1)
    if len(raw) > BYTES:
        raise ValueError(f"it is larger than {BYTES >> 20} MB")
    return parse_plain(raw.decode())


def parse_plain(text: str) -> Any:
    """The values in a text of YAML; see :func:`read_plain`."""
    _check(text)
    return yaml.safe_load(text)


@contextlib.contextmanager
def plain_values() -> Iterator[None]:
    """Let the parser read texts in options, which it takes for YAML too, within the same bounds as files."""
    load = get_loader("yaml")

    def checked(text: str) -> Any:
        _check(text)
        return load(text)

    set_loader("yaml", checked, (yaml.YAMLError,))
    try:
        yield
    finally:
        set_loader("yaml", load, (yaml.YAMLError,))


def _check(text: str) -> None:
    _check_size(text)
    _check_keys(yaml.compose(text, yaml.SafeLoader))


def _check_size(text: str) -> None:
    """Refuse what is too deep or too large once every alias is written out; nothing is built for it."""
    sizes: dict[str, int] = {}
    open_groups: list[tuple[str | None, int]] = []
    count = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} stands for itself or for nothing")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if len(event.value) > CHARACTERS:
                raise ValueError(f"a value is longer than {CHARACTERS:,} characters")
            if "\0" in event.value:
                raise ValueError("a value holds a zero byte")
            if event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_groups.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_groups.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        if len(open_groups) > DEPTH or count > NODES:
            raise ValueError(f"it is more than {DEPTH} groups deep, or holds more than {NODES:,} values")


def _check_keys(node: yaml.Node | None) -> None:
    """Refuse a key that stands twice: of the two, YAML would take the second without a word."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_keys(item)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ValueError(f"{key.value!r} stands twice in the same group")
            seen.add(key.value)
        _check_keys(value)
