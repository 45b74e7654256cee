"""The first lines of a recipe."""

import shlex

from dlkd.pages.recipes import resolve_config


def commands(name):
    """The command lines in the comment at the head of a recipe, as words."""
    head = [line[1:].strip() for line in resolve_config(name).read_text().splitlines() if line.startswith("#")]
    return [shlex.split(line) for line in head if line.startswith("dlkd ")]
