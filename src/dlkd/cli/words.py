"""Words of the command line that are paths, and never YAML."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def many_words(arguments: Sequence[str], option: str) -> tuple[list[str], dict[str, list[Path]]]:
    """Take ``--images A B C`` out of ``arguments``: names of files are anything, and the parser would read YAML.

    Args:
        arguments: as the user typed them.
        option: the one that takes every word after it; empty where the command has none.

    Returns:
        What is left, and the paths by the option.
    """
    rest: list[str] = []
    found: list[Path] = []
    taking = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if option and name == f"--{option}":
            taking = not equals
            found += [Path(value)] if equals else []
        elif taking and not argument.startswith("--"):
            found.append(Path(argument))
        else:
            taking = False
            rest.append(argument)
    return rest, {option: found} if found else {}
