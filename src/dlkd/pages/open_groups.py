"""Options that hold pages of another command's options.

``--run.data.root DATA`` sets one value of such a page, and ``--methods.kd-0.5.loss.temperature 2`` one of a page among
several, each by a name of the user's own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from dlkd.errors import UserError
from dlkd.pages.merge import Page, merged, nested
from dlkd.pages.plain_yaml import parse_plain

Options = TypeVar("Options")


def open_groups(options: type) -> dict[str, bool]:
    """Of a dataclass of options, each that holds one page (False) or several pages by name (True)."""
    hints = {name: next(_pages_in(hint), None) for name, hint in get_type_hints(options).items()}
    return {name: get_args(hint)[1] is not Any for name, hint in hints.items() if hint is not None}


def _pages_in(hint: Any) -> Iterator[Any]:
    """The hint itself, or one of a union, where it is a dictionary."""
    return (part for part in (hint, *get_args(hint)) if get_origin(part) is dict)


def taken_out(
    arguments: Sequence[str], groups: Mapping[str, bool], first_words: Collection[str] = ()
) -> tuple[list[str], Page]:
    """The arguments that set one value within an open group, as ``--run.data.root DATA``, and the others.

    Args:
        arguments: as the user typed them.
        groups: see :func:`open_groups`.
        first_words: what the options of a page begin with. A user's name, which may hold dots, ends before them.

    Returns:
        The others, and the values as a page: the parser would put the last group in place of what a file says of it.

    Raises:
        UserError: an option without a value, or a value that is no YAML.
    """
    rest: list[str] = []
    found: Page = {}
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        group, dot, within = option.removeprefix("--").partition(".")
        if not option.startswith("--") or group not in groups or not dot:
            rest.append(argument)
            continue
        if not within:
            raise UserError(f"expected an option after {option}, but got none; as in --run.epochs 3")
        if not equals:
            try:
                value = next(waiting)
            except StopIteration:
                raise UserError(f"expected a value after {option}, but got none") from None
        try:
            read = parse_plain(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            why = f": {error}" if type(error) is ValueError else ""
            raise UserError(f"expected {option} to be a value of YAML, but got {value!r:.80}{why}") from error
        name, inner = _split(within, first_words, whole=isinstance(read, dict)) if groups[group] else ("", within)
        page = {inner.replace("-", "_"): read} if inner else read
        page = nested(page) if isinstance(page, dict) else page
        found = merged(found, {group: {name: page} if groups[group] else page})
    return rest, found


def _split(within: str, first_words: Collection[str], *, whole: bool) -> tuple[str, str]:
    """``kd-0.5.loss.temperature`` as ``kd-0.5`` and ``loss.temperature``.

    Args:
        within: what stands behind the group.
        first_words: before which the name ends.
        whole: may all of it be the name? It is that of the first word otherwise, where none of them is found.
    """
    words = within.split(".")
    at = next((k for k, word in enumerate(words) if k and word.replace("-", "_") in first_words), None)
    at = at if at is not None else len(words) if whole else 1
    return ".".join(words[:at]), ".".join(words[at:])


def with_values(options: Options, given: Mapping[str, Page]) -> Options:
    """With the values that the command line gives for pages of options, by the name of the group."""
    groups = open_groups(type(options))
    for group, values in given.items():
        page = getattr(options, group)
        # Methods may be listed by name; a value of one of them then makes a page of the list.
        page = dict.fromkeys(page) if isinstance(page, list) else page
        if groups[group]:
            page = {name: nested(of) if isinstance(of, dict) else of for name, of in page.items()}
        else:
            page = nested(page)
        options = dataclasses.replace(options, **{group: merged(page, values)})  # type: ignore[type-var]
    return options
