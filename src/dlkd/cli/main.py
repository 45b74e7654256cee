"""``dlkd``: quickstart, train, distill, evaluate, difficulty, methods."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser, Namespace

from dlkd.cli.recipes import with_config_files
from dlkd.errors import UserError


class Command(NamedTuple):
    """A sub-command: its options and what is done with them."""

    help: str
    options: Callable[[], type]
    run: Callable[[Any], object]
    flags: dict[str, str]


RUN_FLAGS = {
    "resume": "go on with the run in --out, with its own settings",
    "overwrite": "replace the run in --out",
    "force": "go on although the preflight says stop",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``dlkd``. Bad input ends with one line on standard error and exit code 2; a run that was told to
    stop and can be resumed ends with exit code 75."""
    from dlkd.train.interrupt import RESUMABLE, Interrupted

    given = list(sys.argv[1:] if arguments is None else arguments)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        _run(given)
    except UserError as error:
        _fail(str(error), 2)
    except Interrupted as error:
        _fail(str(error), RESUMABLE)
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except BrokenPipeError:
        sys.exit(141)


def _fail(message: str, status: int) -> None:
    print(f"dlkd: {'error: ' if status == 2 else ''}{' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


def _run(arguments: list[str]) -> None:
    commands = _commands()
    parser = ArgumentParser(
        prog="dlkd",
        allow_abbrev=False,
        exit_on_error=False,
        description="Difficulty level-based knowledge distillation.",
    )
    subcommands = parser.add_subcommands(required=True)
    parsers = {}
    # Only the parser that is asked for is filled: the others' options cost a second of imports.
    wanted = next((a for a in arguments if a in commands), None)
    for name, command in commands.items():
        parsers[name] = _parser(name, command, filled=name == wanted)
        subcommands.add_subcommand(name, parsers[name], help=command.help)
    if wanted is not None:
        arguments = _resumed(arguments)
    try:
        parsed = parser.parse_args(with_config_files(arguments))
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UserError(_explain(error, parsers.get(wanted or ""))) from error
    name = parsed.subcommand
    command = commands[name]
    options = _instantiate(command.options(), parsed[name])
    if getattr(options, "resume", False):
        _check_same(options, parsers[name])
    command.run(options)


def _commands() -> dict[str, Command]:
    def quickstart_options() -> type:
        from dlkd.quickstart import Quickstart

        return Quickstart

    def quickstart(options: Any) -> object:
        from dlkd.quickstart import run

        return run(options)

    def train_options() -> type:
        from dlkd.train.options import TrainOptions

        return TrainOptions

    def distill_options() -> type:
        from dlkd.train.options import DistillOptions

        return DistillOptions

    def run(options: Any) -> object:
        from dlkd.jobs.run import run

        return run(options)

    def evaluate_options() -> type:
        from dlkd.jobs.evaluate import EvaluateOptions

        return EvaluateOptions

    def evaluate(options: Any) -> object:
        from dlkd.jobs.evaluate import evaluate

        return evaluate(options)

    def difficulty_options() -> type:
        from dlkd.jobs.difficulty import DifficultyOptions

        return DifficultyOptions

    def difficulty(options: Any) -> object:
        from dlkd.jobs.difficulty import difficulty

        return difficulty(options)

    replace = {"overwrite": "replace what is there"}
    return {
        "quickstart": Command("see DLKD work on digits with wrong labels", quickstart_options, quickstart, replace),
        "train": Command("train a classifier: a teacher, or a baseline", train_options, run, RUN_FLAGS),
        "distill": Command("distil a student from a teacher", distill_options, run, RUN_FLAGS),
        "evaluate": Command("score a trained model", evaluate_options, evaluate, {}),
        "difficulty": Command("score the images of a data set", difficulty_options, difficulty, replace),
    }


def _parser(name: str, command: Command, *, filled: bool) -> ArgumentParser:
    parser = ArgumentParser(prog=f"dlkd {name}", allow_abbrev=False, exit_on_error=False, description=command.help)
    if filled:
        parser.add_argument("--config", action="config", help="a YAML file, or the name of a shipped recipe")
        parser.add_class_arguments(command.options(), skip=set(command.flags))
        for flag, text in command.flags.items():
            parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def _instantiate(kind: type, values: Namespace) -> Any:
    """A dataclass of options out of parsed values, nested ones included."""
    arguments = {}
    for field in dataclasses.fields(kind):
        value = values[field.name]
        nested = field.default_factory if field.default_factory is not dataclasses.MISSING else None
        default = nested() if nested is not None else None
        if dataclasses.is_dataclass(default) and isinstance(value, Namespace):
            value = _instantiate(type(default), value)
        arguments[field.name] = value
    return kind(**arguments)


def _resumed(arguments: list[str]) -> list[str]:
    """With ``--resume``, the run's own settings come first, so that none has to be given again."""
    if "--resume" not in arguments:
        return arguments
    out = _value_of(arguments, "--out")
    if out is None or not (file := Path(out) / "config.yaml").is_file():
        return arguments
    at = next(k for k, a in enumerate(arguments) if not a.startswith("-")) + 1
    return [*arguments[:at], f"--config={file}", *arguments[at:]]


def _value_of(arguments: list[str], option: str) -> str | None:
    for k, argument in enumerate(arguments):
        if argument == option and k + 1 < len(arguments):
            return arguments[k + 1]
        if argument.startswith(f"{option}="):
            return argument.removeprefix(f"{option}=")
    return None


def _check_same(options: Any, parser: ArgumentParser) -> None:
    """A run is resumed with its own settings; another value on the command line is a mistake."""
    import yaml

    from dlkd.jobs.run import config_text

    file = options.out / "config.yaml"
    if not file.is_file():
        return
    before, now = yaml.safe_load(file.read_text()), yaml.safe_load(config_text(options))
    for key in _differences(before, now):
        raise UserError(f"a run is resumed with its own settings, but --{key} is another now; start a new run for that")


def _differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in _differences(a.get(k), b.get(k), f"{prefix}.{k}" if prefix else str(k))]
    return [] if a == b else [prefix]


def _explain(error: BaseException, parser: ArgumentParser | None) -> str:
    """One line out of the parser's message, with the nearest option where one is unknown."""
    message = " ".join(str(error).split())
    unknown = re.search(r"(?:[Uu]nrecognized arguments: |[Kk]ey [\"'])--?([\w.\-]+)", message) or re.search(
        r"(?:[Uu]nrecognized arguments: |[Kk]ey [\"'])([\w.]+)", message
    )
    if parser is None or unknown is None:
        return message
    known = sorted({a.dest for a in parser._actions if a.dest not in ("help", "print_config")})
    name = unknown.group(1).split("=")[0]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return f"there is no option --{name}" + (f"; did you mean --{near[0]}?" if near else "")
