"""Recipes: YAML files shipped with the package and addressed by name, as ``cifar100/lite``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path

from dlkd.errors import UserError
from dlkd.pages.plain_yaml import read_plain

_ROOT = Path(str(resources.files("dlkd"))) / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(p.relative_to(_ROOT).with_suffix("").as_posix() for p in _ROOT.rglob("*.yaml"))


def resolve_config(
    name: str, groups: Collection[str] = (), option: str = "--config", refused: Collection[str] = ()
) -> Path:
    """The file of a recipe by path or by name, checked to be readable YAML.

    Args:
        name: of a file or a recipe.
        groups: names that have to hold options: the parser would take a text for one more file, and let an option of
            the command line take the place of anything else.
        option: that named it.
        refused: options of one call of a command, such as quiet, that a recipe cannot have.

    Raises:
        UserError: no such file or recipe (the message names the nearest), or YAML that is broken or no page of options.
    """
    path = Path(name)
    if not path.is_file():
        if name not in recipe_names():
            near = difflib.get_close_matches(name, recipe_names(), n=1, cutoff=0)[0]
            raise UserError(
                f"expected {option} to be a file or one of the recipes {', '.join(recipe_names())}, "
                f"but got {name!r}; did you mean {near!r}?"
            )
        path = _ROOT / f"{name}.yaml"
    try:
        content = read_plain(path)
    except Exception as error:  # PyYAML raises AttributeError, KeyError and IndexError for tags that do not fit
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"could not read the recipe {path}: {reason}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise UserError(f"expected the recipe {path} to hold options, but found {found}")
    if content and all(value is None for value in content.values()):  # the parser would take it for a text
        named = ", ".join(map(str, content))
        raise UserError(f"expected the recipe {path} to hold options, but there is nothing behind {named:.80}")
    if word := next((key for key in refused if key in content), None):
        raise UserError(
            f"expected --{word} on the command line alone, but the recipe {path} names it; take it out there"
        )
    for key in groups:
        if not isinstance(group := content.get(key), dict | None):
            raise UserError(f"expected {key} in the recipe {path} to be a group of options, but got {group!r:.80}")
    return path


def with_config_files(
    arguments: Sequence[str], groups: Collection[str] = (), refused: Collection[str] = ()
) -> list[str]:
    """The same arguments with every ``--config NAME`` turned into the path of its file; see :func:`resolve_config`."""
    found: list[str] = []
    expects = False
    for argument in arguments:
        if expects:
            argument = str(resolve_config(argument, groups, refused=refused))
        elif argument.startswith("--config="):
            argument = f"--config={resolve_config(argument.removeprefix('--config='), groups, refused=refused)}"
        expects = argument == "--config" and not expects
        found.append(argument)
    return found
