"""``dlkd completion``: a script by which a shell completes commands, options and their values.

The script knows everything itself. To ask ``dlkd`` at every Tab would cost the seconds in which torch is imported.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple

from dlkd.cli.commands import COMMANDS, GROUPS, Command
from dlkd.cli.completion_text import BASH, FISH, ZSH
from dlkd.pages.explain import known_options
from dlkd.pages.recipes import recipe_names


@dataclass(frozen=True)
class CompletionOptions:
    """Print the script of a shell. For bash and zsh: ``source <(dlkd completion bash)`` in its start-up file; for fish:
    ``dlkd completion fish > ~/.config/fish/completions/dlkd.fish``.

    Attributes:
        shell: whose script.
    """

    shell: Literal["bash", "zsh", "fish"]


class Value(NamedTuple):
    """What may stand behind an option."""

    words: tuple[str, ...] = ()
    files: bool = False
    none: bool = False
    """It takes no value."""


def completion(options: CompletionOptions) -> None:
    """Print the script."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](), end="")


def bash() -> str:
    """The script for bash."""
    return BASH.replace("@COMMANDS@", " ".join(_first_words())).replace("@CASES@", _cases())


def zsh() -> str:
    """The script for zsh."""
    return ZSH.replace("@COMMANDS@", " ".join(_first_words())).replace("@CASES@", _cases())


def fish() -> str:
    """The script for fish."""
    lines = []
    for name in _first_words():
        about = _quoted(GROUPS[name] if name in GROUPS else COMMANDS[name].help)
        lines.append(f"complete -c dlkd -f -n 'test (__dlkd_command) = \"\"' -a {name} -d {about}")
    for group in GROUPS:
        second = " ".join(_second_words(group))
        lines.append(f"complete -c dlkd -f -n 'test (__dlkd_command) = {group}' -a '{second}'")
    for name, command in COMMANDS.items():
        when = f"-n 'test (__dlkd_command) = \"{name}\"'"
        for option, value in _values(command).items():
            words = f" -a {_quoted(' '.join(value.words))}" if value.words else ""
            takes = "" if value.none else (" -r -F" if value.files else " -x") + words
            lines.append(f"complete -c dlkd {when} -l {option}{takes}")
        if command.word and (words := " ".join(_values(command)[command.word].words)):
            lines.append(f"complete -c dlkd {when} -f -a {_quoted(words)}")
    return FISH + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "\\'") + "'"


def _first_words() -> list[str]:
    return list(dict.fromkeys(name.partition(" ")[0] for name in COMMANDS))


def _second_words(group: str) -> list[str]:
    return [second for first, _, second in (name.partition(" ") for name in COMMANDS) if first == group]


def _cases() -> str:
    """What bash and zsh have in common: the options of each command, and the values of the option before the cursor."""
    lines = []
    for group in GROUPS:
        lines.append(f"'{group} ') choices='{' '.join(_second_words(group))}' ;;")
    for name, command in COMMANDS.items():
        values = _values(command)
        lines += [f"'{name}')", f"    options='{' '.join(f'--{option}' for option in values)}'"]
        lines.append("    case $prev in")
        for value, options in _by_value(values):
            does = f"choices='{' '.join(value.words)}'; files={'1' if value.files else ''}; value=1"
            lines.append(f"        {'|'.join(f'--{option}' for option in options)}) {does} ;;")
        own = " ".join(values[command.word].words) if command.word else ""
        lines += [f"        *) choices='{own}'; files={'' if own else '1'} ;;", "    esac ;;"]
    return "\n".join(f"    {line}" for line in lines)


def _by_value(values: dict[str, Value]) -> Iterator[tuple[Value, list[str]]]:
    """The options of each kind, but for those that take no value."""
    for value in dict.fromkeys(values.values()):
        if not value.none:
            yield value, [option for option, each in values.items() if each == value]


def _values(command: Command) -> dict[str, Value]:
    """Every option of a command, but for groups, whose options are named one by one."""
    known = known_options(resolve_name(command.options))
    found = {"config": Value(tuple(recipe_names()), files=True)}
    for name, hint in known.items():
        if not dataclasses.is_dataclass(hint) and name not in command.flags:
            found[name] = _value(name, hint)
    return {**found, **{name: Value(none=True) for name in (*command.flags, *command.screen, "help")}}


def _value(name: str, hint: Any) -> Value:
    if name in (named := _names()):
        return Value(named[name])
    inner = [hint, *_inner(hint)]
    words = [str(word) for each in inner if typing.get_origin(each) is Literal for word in typing.get_args(each)]
    words += ["true", "false"] if bool in inner else []
    return Value(tuple(words), files=Path in inner)


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """Of options that are text to the parser."""
    from dlkd.data.sources import NAMES
    from dlkd.methods import METHODS

    return {"method": tuple(METHODS), "data.name": NAMES, "device": ("auto", "cpu", "cuda", "mps")}


def _inner(hint: Any) -> Iterator[Any]:
    for each in typing.get_args(hint) if typing.get_origin(hint) is not Literal else ():
        yield each
        yield from _inner(each)
