"""What ``dlkd --help`` says, on one screen, and the first lines of the help of a command."""

from __future__ import annotations

from dlkd.cli.commands import COMMANDS, GROUPS

_WIDTH = 12
_SHELVES = {
    "Start": ("quickstart", "doctor", "completion"),
    "Distil": ("train", "distill", "store"),
    "Look": ("evaluate", "report", "difficulty", "methods"),
    "Labels": ("audit", "clean"),
    "Compare": ("compare", "tune", "reproduce"),
    "Ship": ("export", "predict", "serve"),
}
EXAMPLES = (
    "train --epochs 15 --out runs/teacher",
    "distill --teacher runs/teacher --epochs 15 --out runs/student",
    "evaluate --weights runs/student",
)
"""They need no data of the user's: the digits come with scikit-learn."""


def overview() -> str:
    """All commands with a few words each, three examples, and where to read on."""
    lines = ["dlkd makes large image classifiers small: each image taught by its difficulty.", ""]
    for shelf, names in _SHELVES.items():
        for k, name in enumerate(names):
            text = GROUPS[name] if name in GROUPS else COMMANDS[name].help
            lines.append(f"{shelf if k == 0 else '':<9}{name:<{_WIDTH}}{text}")
    lines += ["", "Examples, in this order (bundled digits, under a minute each):"]
    lines += [f"  dlkd {example}" for example in EXAMPLES]
    lines += ["", "Read on:  dlkd COMMAND --help, and docs/guide.md.  Version:  dlkd --version"]
    return "\n".join(lines)


def usage(name: str) -> str:
    """The usage line of a command, and an example below it."""
    command = COMMANDS[name]
    word = f" {command.word.upper()}" if command.word else ""
    many = f" --{command.many} FILE_OR_FOLDER ..." if command.many else ""
    return f"dlkd {name}{word}{many} [options]\nexample: dlkd {command.example}"
