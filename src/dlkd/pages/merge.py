"""Pages of options put together before they are typed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import yaml

from dlkd.errors import UserError

Page = dict[str, Any]


def merged(*pages: Page) -> Page:
    """One page of several: groups are joined, and of two values the later one counts."""
    found: Page = {}
    for page in pages:
        for key, value in page.items():
            old = found.get(key)
            found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def nested(page: Page) -> Page:
    """``{"data.root": x}`` as ``{"data": {"root": x}}``, at any depth."""
    found: Page = {}
    for key, value in page.items():
        *groups, last = str(key).split(".")
        inner: Page = {last: nested(value) if isinstance(value, dict) else value}
        for group in reversed(groups):
            inner = {group: inner}
        found = merged(found, inner)
    return found


def taken_out(arguments: Sequence[str], groups: Collection[str]) -> tuple[list[str], Page]:
    """The arguments that set one value within an open group, as ``--run.data.root DATA``, and the others.

    Returns:
        The others, and the values as a page: the parser would put the last group in place of what a file says of it.

    Raises:
        UserError: an option without a value, or a value that is no YAML.
    """
    rest: list[str] = []
    found: Page = {}
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name[2:].partition(".")[0] not in groups or "." not in name:
            rest.append(argument)
            continue
        if not equals:
            try:
                value = next(waiting)
            except StopIteration:
                raise UserError(f"expected a value after {name}, but got none") from None
        try:
            found = merged(found, nested({name[2:]: yaml.safe_load(value)}))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(f"expected {name} to be a value of YAML, but got {value!r:.80}") from error
    return rest, found
