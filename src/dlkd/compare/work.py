"""Run the cells of a comparison: resumable, in several processes, here or on machines that share the folder."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from dlkd.compare.study import WHERE, Cell
from dlkd.errors import UserError, first_line
from dlkd.files import held, write_atomic, write_json
from dlkd.jobs.card import CONFIG, config_text
from dlkd.jobs.run import run_or_go_on
from dlkd.quiet import is_quiet, quietly
from dlkd.run_folder import RESULTS
from dlkd.train.interrupt import RESUMABLE, Interrupted
from dlkd.train.options import DistillOptions


def finished(cell: Cell) -> bool:
    """Is there nothing left to do?"""
    return (cell.options.out / RESULTS).is_file()


def failure(cell: Cell) -> Path:
    """The file that says why a cell could not be run."""
    return cell.options.out.with_name(f"{cell.options.out.name}.failed.json")


def mend(path: Path) -> str:
    """What the user does about a file that is damaged."""
    return f"delete {path}, and the same command makes it again"


def run_cells(cells: Sequence[Cell], workers: int = 1) -> None:
    """Run what is not finished; cells that another process is at are left to it.

    What the user can mend in one cell is kept beside it, and the others go on.

    Raises:
        Interrupted: told to stop; the same call goes on.
    """
    cells = [cell for cell in cells if not finished(cell)]
    workers = min(workers, len(cells))
    if workers <= 1:
        _work(cells, 0, 1)
        return
    context = multiprocessing.get_context("spawn")
    team = [context.Process(target=_begin, args=(cells, k, workers, is_quiet())) for k in range(workers)]
    try:
        for process in team:
            process.start()
        for process in team:
            process.join()
    except BaseException:
        for process in team:
            if process.is_alive():
                process.terminate()
        for process in team:
            process.join()
        raise
    if any(process.exitcode == RESUMABLE for process in team):
        raise Interrupted("stopped; the same command goes on with the cells that are left")
    if bad := [process.exitcode for process in team if process.exitcode]:
        raise UserError(
            f"a process that ran cells ended with status {bad[0]}, as for want of memory; the same command goes on, "
            "perhaps with fewer --workers"
        )


def run_all(cells: Sequence[Cell], workers: int = 1) -> None:
    """:func:`run_cells`, and wait for those that another process is at: what comes next rests on them."""
    run_cells(cells, workers)
    while left := [cell for cell in cells if not finished(cell) and not failure(cell).is_file()]:
        time.sleep(1)
        run_cells(left, workers)


def _begin(cells: Sequence[Cell], number: int, workers: int, quiet: bool) -> None:
    """A process of several, with its share of the cores."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    with contextlib.suppress(KeyboardInterrupt), quietly() if quiet else contextlib.nullcontext():
        try:
            _work(cells, number, workers)
        except Interrupted:
            raise SystemExit(RESUMABLE) from None


def _work(cells: Sequence[Cell], number: int, workers: int) -> None:
    """Each process begins at groups of its own, so that no two ask the teacher about the same views at once."""
    groups = list(dict.fromkeys(cell.group for cell in cells))
    at = number * len(groups) // workers
    for group in [*groups[at:], *groups[:at]]:
        for cell in (c for c in cells if c.group == group):
            _run_cell(cell, number)


def _run_cell(cell: Cell, number: int) -> None:
    folder = cell.options.out
    lock = folder.with_name(f"{folder.name}.lock")
    with contextlib.ExitStack() as stack:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            mine = stack.enter_context(held(lock, wait=False))
        except (OSError, NotImplementedError) as error:
            _say_why(cell, f"could not lock {lock}: {first_line(error)}; give another --out")
            return
        if mine and not finished(cell):
            _run_alone(cell, number)


def _run_alone(cell: Cell, number: int) -> None:
    options, gpus = cell.options, torch.cuda.device_count()
    if options.device == "auto" and gpus > 1:
        options = replace(options, device=f"cuda:{number % gpus}")
    failure(cell).unlink(missing_ok=True)
    try:
        _take_over(options)
        results = run_or_go_on(options)
    except UserError as error:
        _say_why(cell, str(error))
        return
    print(_sentence(cell, results), flush=True)


def _say_why(cell: Cell, reason: str) -> None:
    write_json(failure(cell), {"reason": reason})
    print(f"{cell.row}, seed {cell.seed}: failed: {reason}", flush=True)


def _take_over(options: DistillOptions) -> None:
    """A cell that was begun elsewhere goes on with the device, the data and the store of here; that images, labels and
    teacher are the same is checked by the run."""
    file = options.out / CONFIG
    if not file.is_file():
        return
    try:
        before, now = yaml.safe_load(file.read_text()), yaml.safe_load(config_text(options))
        here = before | {key: now[key] for key in ("device", "store", "storage")}
        here["data"] = before["data"] | {key: now["data"][key] for key in WHERE}
    except Exception as error:  # PyYAML raises AttributeError, KeyError and IndexError for tags that do not fit
        raise UserError(f"{file} is damaged; {mend(options.out)}") from error
    if here != before:
        write_atomic(file, yaml.safe_dump(here, sort_keys=False, allow_unicode=True))


def _sentence(cell: Cell, results: dict[str, Any]) -> str:
    of, seconds = results[cell.options.score_on], results["seconds"]
    return f"{cell.row}, seed {cell.seed}: {of['accuracy']:.2f} %, trained for {seconds:.0f} s"
