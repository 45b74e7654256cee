"""What a command leaves on the screen: everything, what went wrong, or its result as one JSON object."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pkgutil import resolve_name
from typing import Any

from dlkd.cli.commands import Command
from dlkd.errors import UserError, Verdict
from dlkd.quiet import quietly
from dlkd.train.launch import Launch


def run_and_say(command: Command, options: Any, screen: Collection[str]) -> None:
    """Do the work of a command, and print of it what was asked for.

    Args:
        command: whose work.
        options: its dataclass.
        screen: those of ``command.screen`` that were given.

    Raises:
        UserError: the result is lines, and no JSON object, besides what the work raises.
        Verdict: as the work does, once the result is printed.
    """
    run, quiet, as_json = resolve_name(command.run), "quiet" in screen, "json" in screen
    lines = bool(command.lines_without) and getattr(options, command.lines_without) is None
    if as_json and lines:
        raise UserError(
            f"expected --{command.lines_without} FILE with --json: without it standard output is lines of JSON already"
        )
    verdict: Verdict | None = None
    with contextlib.ExitStack() as stack:
        if as_json:
            stack.enter_context(_output_to_error())
        if quiet:
            stack.enter_context(quietly(out=not lines))
        try:
            result = run(options)
        except Verdict as error:
            result, verdict = error.result, error
    # The first of several processes says it for all.
    if as_json and Launch.found().rank == 0:
        print(json.dumps(json_value(_summary(command, options, result)), indent=2, allow_nan=False))
    if verdict is not None:
        raise verdict


def json_value(value: Any) -> Any:
    """``value`` as JSON knows it: arrays are lists, paths are text, numbers that are not finite are null."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(each) for each in value]
    if hasattr(value, "tolist"):  # arrays, tensors and their numbers
        return json_value(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _summary(command: Command, options: Any, result: Any) -> Any:
    """Of columns, how many rows they have, what they are called, their means, and the files that hold them."""
    if not isinstance(result, dict) or not result or not all(getattr(column, "ndim", 0) for column in result.values()):
        return result
    return {
        "rows": len(next(iter(result.values()), ())),
        "columns": list(result),
        "means": {name: column.mean() for name, column in result.items() if column.size and column.dtype.kind == "f"},
        "files": [options.out.with_suffix(suffix) if suffix else options.out for suffix in command.beside],
    }


@contextlib.contextmanager
def _output_to_error() -> Iterator[None]:
    """What is said on standard output is said on standard error, by other processes that the block starts as well."""
    if sys.stdout is not sys.__stdout__ or sys.stdout is None:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
