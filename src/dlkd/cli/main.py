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
from typing import NamedTuple, get_args, get_origin, get_type_hints

from jsonargparse import (  # type: ignore[attr-defined]
    ActionConfigFile,
    ArgumentParser,
)

import dlkd
from dlkd.cli.named_code import check_named_code
from dlkd.cli.words import many_words
from dlkd.errors import UserError, printable
from dlkd.pages.explain import explain
from dlkd.pages.merge import merged, nested, taken_out
from dlkd.pages.plain_yaml import plain_values
from dlkd.pages.recipes import with_config_files
from dlkd.pages.typed import instantiate


class Command(NamedTuple):
    """A sub-command: its options and what is done with them, named so that only what is used is imported."""

    help: str
    options: str
    """``module:Dataclass``."""
    run: str
    """``module:function`` of the options."""
    flags: dict[str, str]
    word: str = ""
    """The option that a word after the command stands for."""
    many: str = ""
    """The option that takes every word after it: paths, which are not read as YAML."""


RUN_FLAGS = {
    "resume": "go on with the run in --out, with its own settings",
    "overwrite": "replace the run in --out",
    "force": "go on although the preflight says stop",
}


COLLECT = {"collect": "run nothing, but write the tables of what is there"}
TEST = {"final": "read the test images for every finished cell, and note it in the ledger", **COLLECT}
REPLACE = {"overwrite": "replace what is there"}
AUDIT_FLAGS = {
    "heads_only": "train the classifiers of the folds alone, on a pretrained network (--model)",
    **REPLACE,
}
EXPORT_FLAGS = {
    "int8": "write model.int8.onnx as well, calibrated on training images",
    "benchmark": "measure latency and size of student and teacher",
    **REPLACE,
}
TRAIN, DISTILL = "dlkd.train.options:TrainOptions", "dlkd.train.options:DistillOptions"
EVALUATE, DIFFICULTY = "dlkd.jobs.evaluate:EvaluateOptions", "dlkd.jobs.difficulty:DifficultyOptions"
STORE = "dlkd.jobs.store:StoreFolder"
GROUPS = {"store": "keep what the teacher says: build, verify, repair, info"}
"""First words of commands of two."""
COMMANDS = {
    "quickstart": Command(
        "see DLKD work on digits with wrong labels", "dlkd.quickstart:Quickstart", "dlkd.quickstart:run", REPLACE
    ),
    "train": Command("train a classifier: a teacher, or a baseline", TRAIN, "dlkd.jobs.run:run", RUN_FLAGS),
    "distill": Command("distil a student from a teacher", DISTILL, "dlkd.jobs.run:run", RUN_FLAGS),
    "evaluate": Command("score a trained model", EVALUATE, "dlkd.jobs.evaluate:evaluate", REPLACE),
    "difficulty": Command("score the images of a data set", DIFFICULTY, "dlkd.jobs.difficulty:difficulty", REPLACE),
    "store build": Command("make the lessons of a run beforehand", DISTILL, "dlkd.jobs.store:build_store", {}),
    "store verify": Command("look at every byte of a store", STORE, "dlkd.jobs.store:verify_store", {}),
    "store repair": Command("make again what is damaged", DISTILL, "dlkd.jobs.store:repair_store", {}),
    "store info": Command("say what a store holds", STORE, "dlkd.jobs.store:store_info", {}),
    "compare": Command(
        "compare methods over seeds and conditions",
        "dlkd.compare.study:CompareOptions",
        "dlkd.compare.job:compare",
        TEST,
    ),
    "tune": Command(
        "find settings for methods with one small budget",
        "dlkd.compare.tune:TuneOptions",
        "dlkd.compare.tune:tune",
        COLLECT,
    ),
    "reproduce": Command(
        "run a published row again",
        "dlkd.compare.reproduce:ReproduceOptions",
        "dlkd.compare.reproduce:reproduce",
        {},
        "row",
    ),
    "audit": Command(
        "find wrong labels and hard images", "dlkd.audit.options:AuditOptions", "dlkd.audit.job:audit", AUDIT_FLAGS
    ),
    "clean": Command(
        "make labels and weights out of an audit",
        "dlkd.audit.clean:CleanOptions",
        "dlkd.audit.clean:clean",
        REPLACE,
        "audit",
    ),
    "export": Command(
        "write the student alone: ONNX, safetensors, torch.export, a folder for the Hub",
        "dlkd.export.options:ExportOptions",
        "dlkd.export.job:export",
        EXPORT_FLAGS,
        "run",
    ),
    "predict": Command(
        "ask a model about pictures",
        "dlkd.export.predict:PredictOptions",
        "dlkd.export.predict:predict",
        REPLACE,
        "model",
        "images",
    ),
    "methods": Command("list the methods", "dlkd.jobs.methods:MethodsOptions", "dlkd.jobs.methods:methods", {}),
}


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
    from dlkd.train.group import Launch

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
    parser = ArgumentParser(
        prog="dlkd",
        version=dlkd.__version__,
        allow_abbrev=False,
        exit_on_error=False,
        description="Difficulty level-based knowledge distillation.",
    )
    wanted = _wanted(arguments)
    if wanted not in COMMANDS and not {"-h", "--help", "--version"} & {*arguments}:
        near = difflib.get_close_matches(wanted, COMMANDS, n=1)
        raise UserError(
            f"expected a command out of {', '.join(COMMANDS)}, but got {wanted or 'none'}"
            + (f"; did you mean {near[0]}?" if near else "")
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
    try:
        rest, words = many_words(_with_word(arguments, wanted), COMMANDS[wanted].many if wanted in COMMANDS else "")
        rest, given = taken_out(rest, _open_groups(wanted))
        files_read = with_config_files(_with_own_settings(rest, wanted), _groups(wanted))
        with plain_values():
            parsed = parser.parse_args(files_read)
    except (argparse.ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(
            explain(str(error), resolve_name(COMMANDS[wanted].options) if wanted in COMMANDS else None)
        ) from error
    command = COMMANDS[wanted]
    options = instantiate(resolve_name(command.options), parsed[wanted.replace(" ", ".")])
    options = dataclasses.replace(options, **words)
    for name, values in given.items():
        page = getattr(options, name)
        # Methods may be listed by name; a value of one of them then makes a page of the list.
        page = dict.fromkeys(page) if isinstance(page, list) else page
        # Names in a page of pages may hold dots, as kd-0.5 does; names of options are groups then.
        page = (
            nested(page)
            if name == "run"
            else {key: nested(of) if isinstance(of, dict) else of for key, of in page.items()}
        )
        options = dataclasses.replace(options, **{name: merged(page, values)})
    check_named_code(options, arguments)
    resolve_name(command.run)(options)


def _groups(wanted: str) -> set[str]:
    """Options of a command that have options of their own."""
    if wanted not in COMMANDS:
        return set()
    hints = get_type_hints(resolve_name(COMMANDS[wanted].options))
    return {name for name, hint in hints.items() if dataclasses.is_dataclass(hint)}


def _open_groups(wanted: str) -> set[str]:
    """Options of a command that hold pages of options, whose names are the user's."""
    if wanted not in COMMANDS:
        return set()
    hints = get_type_hints(resolve_name(COMMANDS[wanted].options))
    return {name for name, hint in hints.items() if any(get_origin(h) is dict for h in (hint, *get_args(hint)))}


def _parser(name: str, command: Command, *, filled: bool) -> ArgumentParser:
    parser = ArgumentParser(prog=f"dlkd {name}", allow_abbrev=False, exit_on_error=False, description=command.help)
    if filled:
        parser.add_argument("--config", action=ActionConfigFile, help="a YAML file, or the name of a shipped recipe")
        parser.add_class_arguments(resolve_name(command.options), skip=set(command.flags))
        for flag, text in command.flags.items():
            parser.add_argument(f"--{flag}", action="store_true", help=text)
    return parser


def _wanted(arguments: Sequence[str]) -> str:
    """The command, of one word or two; empty where there is none."""
    words = [a for a in arguments if not a.startswith("-")]
    return " ".join(words[: 2 if words and words[0] in GROUPS else 1])


def _with_word(arguments: list[str], command: str) -> list[str]:
    """``dlkd reproduce ROW`` as ``dlkd reproduce --row=ROW``."""
    at = arguments.index(command.split()[-1]) + 1 if command in COMMANDS else len(arguments)
    if at < len(arguments) and not arguments[at].startswith("-") and COMMANDS[command].word:
        return [*arguments[:at], f"--{COMMANDS[command].word}={arguments[at]}", *arguments[at + 1 :]]
    return arguments


def _with_own_settings(arguments: list[str], command: str) -> list[str]:
    """With ``--resume``, the run's own settings come first, so that none has to be given again; as do those of a store
    that is to be mended."""
    if command in ("train", "distill") and "--resume" in arguments and "--overwrite" not in arguments:
        from dlkd.jobs.run import resumable_config
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
