"""``dlkd`` and its commands."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_type_hints

from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentParser,
)

import dlkd
from dlkd.cli.commands import COMMANDS, GROUPS, Command
from dlkd.cli.help import overview, usage
from dlkd.cli.named_code import check_named_code
from dlkd.cli.output import run_and_say
from dlkd.cli.words import many_words
from dlkd.errors import UserError, printable
from dlkd.pages.explain import explain
from dlkd.pages.open_groups import open_groups, taken_out, with_values
from dlkd.pages.places import with_places, with_underscores
from dlkd.pages.plain_yaml import plain_values
from dlkd.pages.recipes import with_config_files
from dlkd.pages.typed import instantiate


class _OfTheScreen(argparse.Action):
    """Is in the help alone: a page of options says nothing of the screen."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: object) -> None:
        """Taken out of the arguments before they are parsed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``dlkd``. Bad input ends with one line on standard error and exit code 2; a run that was told to
    stop and can be resumed ends with exit code 75."""
    from dlkd.train.interrupt import RESUMABLE, Interrupted, Terminated, terminated_by_exception

    given = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        with terminated_by_exception():
            _run(given)
    except UserError as error:
        _fail(str(error), 2)
    except Interrupted as error:
        _fail(str(error), RESUMABLE)
    except Terminated:
        _fail("stopped; give the same command again, with --resume if there is a run in --out", RESUMABLE)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:  # of a path that no reader expected: too long, a loop of links, a broken disk
        _fail(f"could not use {error.filename or 'a file'!s:.200}: {error.strerror or error}", 2)


def _fail(message: str, status: int) -> None:
    from dlkd.train.launch import Launch

    try:
        launch = Launch.found()
    except UserError:  # which is what is being said, then
        launch = Launch()
    if launch.rank and status != 2:
        sys.exit(status)  # the first of several processes says so for all
    if launch.world > 1 and status == 2:
        message = f"{message} (process {launch.rank + 1} of {launch.world})"
    print(f"dlkd: {'error: ' if status == 2 else ''}{printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(status)


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
        return
    wanted = _wanted(arguments)
    if wanted not in COMMANDS and not {"-h", "--help", "--version"} & {*arguments}:
        raise UserError(_no_command(wanted))
    try:
        pages = open_groups(resolve_name(COMMANDS[wanted].options)) if wanted in COMMANDS else {}
        arguments = with_underscores(arguments, pages)
        screen = COMMANDS[wanted].screen if wanted in COMMANDS else {}
        flags = {f"--{flag}" for flag in screen}
        rest = [argument for argument in arguments if argument not in flags]
        rest, words = many_words(_with_word(rest, wanted), COMMANDS[wanted].many if wanted in COMMANDS else "")
        rest = with_places(rest, _groups(wanted) | pages.keys())
        rest, given = taken_out(rest, pages, _options_of_a_run() if pages else ())
        files_read = with_config_files(_with_own_settings(rest, wanted), _groups(wanted), screen)
        with plain_values():
            parsed = _whole_parser(wanted).parse_args(files_read)
    except (argparse.ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(_explained(str(error), wanted)) from error
    command = COMMANDS[wanted]
    said = parsed[wanted.replace(" ", ".")]
    options = instantiate(resolve_name(command.options), said)
    options = dataclasses.replace(options, **words)
    options = with_values(options, given)
    check_named_code(options, arguments)
    _check_root(options, arguments)
    run_and_say(command, options, {flag for flag in command.screen if f"--{flag}" in arguments})


def _check_root(options: Any, arguments: list[str]) -> None:
    """Who names a folder wants the images in it, not the digits that every command takes by default. An old run, or a
    recipe, may well have one."""
    root = _value_of(arguments, "--data.root")
    if root is not None and options.data.name == "digits":
        raise UserError(
            f"expected --data.name with --data.root {root}, but got the bundled digits; for images in folders, one a "
            f"class, give --data.name folder --data.root {root}"
        )


def _whole_parser(wanted: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog="dlkd",
        version=dlkd.__version__,
        allow_abbrev=False,
        exit_on_error=False,
        description="Difficulty level-based knowledge distillation.",
    )
    subcommands = parser.add_subcommands(required=True)
    groups = {}
    for name, text in GROUPS.items():
        group = ArgumentParser(prog=f"dlkd {name}", allow_abbrev=False, exit_on_error=False, description=text)
        subcommands.add_subcommand(name, group, help=text)
        groups[name] = group.add_subcommands(required=True)
    # Only the parser that is asked for is filled: the others' options cost a second of imports.
    for name, command in COMMANDS.items():
        first, _, second = name.partition(" ")
        to, last = (groups[first], second) if second else (subcommands, first)
        to.add_subcommand(last, _parser(name, command, filled=name == wanted), help=command.help)
    return parser


def _no_command(wanted: str) -> str:
    if wanted in GROUPS or wanted.split(" ")[0] in GROUPS:
        known = [name for name in COMMANDS if name.split(" ")[0] == wanted.split(" ")[0]]
    else:
        known = list(COMMANDS)
    near = difflib.get_close_matches(wanted, known, n=1)
    return (
        f"expected a command out of {', '.join(known)}, but got {wanted or 'none'}; "
        + (f"did you mean {near[0]}? " if near else "")
        + "dlkd --help says what each does"
    )


def _explained(message: str, wanted: str) -> str:
    if wanted not in COMMANDS:
        return explain(message, None)
    text = explain(message, resolve_name(COMMANDS[wanted].options))
    return f"{text}; as in: dlkd {COMMANDS[wanted].example}" if text.endswith("but it is missing") else text


def _groups(wanted: str) -> set[str]:
    """Options of a command that have options of their own."""
    if wanted not in COMMANDS:
        return set()
    hints = get_type_hints(resolve_name(COMMANDS[wanted].options))
    return {name for name, hint in hints.items() if dataclasses.is_dataclass(hint)}


def _options_of_a_run() -> set[str]:
    """What the options in pages begin with, those of ``dlkd distill``."""
    from dlkd.train.options import DistillOptions

    return {field.name for field in dataclasses.fields(DistillOptions)}


def _parser(name: str, command: Command, *, filled: bool) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"dlkd {name}", usage=usage(name), allow_abbrev=False, exit_on_error=False, description=command.help
    )
    if filled:
        parser.add_argument("--config", action=ActionConfigFile, help="a YAML file, or the name of a shipped recipe")
        parser.add_class_arguments(resolve_name(command.options), skip=set(command.flags))
        for flag, text in command.flags.items():
            parser.add_argument(f"--{flag}", action="store_true", help=text)
        for flag, text in command.screen.items():
            parser.add_argument(f"--{flag}", action=_OfTheScreen, help=text)
    return parser


def _wanted(arguments: Sequence[str]) -> str:
    """The command, of one word or two; empty where there is none."""
    words = [a for a in arguments if not a.startswith("-")]
    return " ".join(words[: 2 if words and words[0] in GROUPS else 1])


def _with_word(arguments: list[str], command: str) -> list[str]:
    """``dlkd reproduce ROW`` as ``dlkd reproduce --row=ROW``, ``dlkd report A B`` as ``dlkd report --runs A B``."""
    at = arguments.index(command.split()[-1]) + 1 if command in COMMANDS else len(arguments)
    if at == len(arguments) or arguments[at].startswith("-"):
        return arguments
    word, many = COMMANDS[command].word, COMMANDS[command].many
    if word:
        return [*arguments[:at], f"--{word}={arguments[at]}", *arguments[at + 1 :]]
    return [*arguments[:at], f"--{many}", *arguments[at:]] if many else arguments


def _with_own_settings(arguments: list[str], command: str) -> list[str]:
    """With ``--resume``, the run's own settings come first, so that none has to be given again; as do those of a store
    that is to be mended."""
    if command in ("train", "distill") and "--resume" in arguments and "--overwrite" not in arguments:
        from dlkd.jobs.as_begun import resumable_config
        from dlkd.train.options import RunOptions

        file = resumable_config(Path(_value_of(arguments, "--out") or RunOptions().out), command)
    elif command == "store repair" and (store := _value_of(arguments, "--store")) is not None:
        from dlkd.store.shards import SETTINGS

        file = Path(store) / SETTINGS
        if not file.is_file():
            return arguments
    else:
        return arguments
    at = arguments.index(command.split()[-1]) + 1
    return [*arguments[:at], f"--config={file}", *arguments[at:]]


def _value_of(arguments: list[str], option: str) -> str | None:
    """The last one counts, as for the parser."""
    found = None
    for k, argument in enumerate(arguments):
        if argument == option and k + 1 < len(arguments):
            found = arguments[k + 1]
        elif argument.startswith(f"{option}="):
            found = argument.removeprefix(f"{option}=")
    return found
