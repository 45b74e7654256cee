"""``dlkd reproduce``: run a published row again, and say whether it comes out where its seeds say it should."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from dlkd.compare.collect import COMPARED
from dlkd.compare.found import read_cells, reason_of
from dlkd.compare.names import check_name, check_seeds
from dlkd.compare.study import Cell, cell, checked, reader, row_name
from dlkd.compare.work import failure, run_all
from dlkd.errors import UserError, Verdict
from dlkd.evaluate.statistics import band
from dlkd.files import write_json
from dlkd.pages.merge import Page, merged, nested

READ_BY_RUNS = tuple(figure for figure in COMPARED if figure != "test")
"""Accuracies of held-out images: a comparison reads the test images apart from its runs."""
NAMES = ("pair", "condition", "method")
"""Parts of the name of a row, each of which has a field of its own in the file."""


@dataclass(frozen=True)
class ReproduceOptions:
    """Run one row of a comparison again, with seeds of your own or with its own.

    Attributes:
        row: name of the file without its ending, and of the row in it, as ``mapping/sym40/dlkd``.
        results: folder of the files that ``dlkd compare`` left, as ``mapping.json``.
        run: options in place of the row's, as ``--run.data.root DATA``: where data and teacher lie is not part of it.
        seeds: to run; by default the first that the row does not have. One that it has must give its figures again, to
            the last digit on the same machine and versions.
        workers: processes that share the seeds.
        out: folder in which each row has one of its own.
    """

    row: str
    results: Path = Path("results")
    run: dict[str, Any] = field(default_factory=dict)
    seeds: list[int] | None = None
    workers: int = 1
    out: Path = Path("runs/reproduce")

    @property
    def page_of_file(self) -> Page:
        """The options that the row names, which may be a stranger's."""
        return dict(find_row(self.results, self.row)["options"])


def reproduce(options: ReproduceOptions) -> dict[str, Any]:
    """Returns the content of ``results.json``.

    Raises:
        UserError: no such row, options that no run would take, or a run that failed.
        Verdict: the mean of the new seeds, or a published one, lies outside the published band.
    """
    if options.workers < 1:
        raise UserError(f"expected --workers to be at least 1, but got {options.workers}")
    published = find_row(options.results, options.row)
    out = options.out / options.row
    cells = _cells(options, published, out)
    run_all(cells, options.workers)
    if failed := [c for c in cells if failure(c).is_file()]:
        raise UserError(f"{options.row} seed {failed[0].seed} could not be run: {reason_of(failed[0])}")
    found = {each.cell.seed: each.figures for each in read_cells(cells)}
    figures = {name: judged for name in READ_BY_RUNS if (judged := _judged(published, found, name)) is not None}
    content = {"command": "reproduce", "row": options.row, "options": published["options"], "figures": figures}
    write_json(out / "results.json", content)
    for name, judged in figures.items():
        print(_sentence(options.row, name, judged))
    if any(judged["inside"] is False for judged in figures.values()):
        raise Verdict(content)
    return content


def find_row(results: Path, name: str) -> dict[str, Any]:
    """A row by the name of its file and its own.

    Raises:
        UserError: there is no such file or row; the message names the nearest.
    """
    stem, _, row = name.partition("/")
    file = results / f"{stem}.json"
    if not row or not file.is_file():
        files = sorted(path.stem for path in results.glob("*.json"))
        raise UserError(
            f"expected --row to be FILE/ROW with FILE.json in {results}, which has {', '.join(files) or 'none'}, but "
            f"got {name!r:.80}"
        )
    try:
        rows = {each["row"]: each for each in map(_known, json.loads(file.read_text())["rows"])}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"expected {file} to be the results.json of dlkd compare, but it has no rows of it") from error
    if row not in rows:
        near = difflib.get_close_matches(row, rows, n=1, cutoff=0)
        raise UserError(
            f"expected a row of {file}, but got {row!r:.80}" + (f"; did you mean {near[0]}?" if near else "")
        )
    return rows[row]


def _known(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as this command needs it, its name from its parts; raises what a stranger's file makes Python raise."""
    seeds = {str(int(seed)): {name: float(v) for name, v in of.items()} for seed, of in row["seeds"].items()}
    for of in NAMES:
        check_name(of, row[of], one=True)
    if not seeds or not all(math.isfinite(v) for of in seeds.values() for v in of.values()):
        raise ValueError("no figures")
    return {**row, "row": row_name(*(row[of] for of in NAMES)), "options": dict(row["options"]), "seeds": seeds}


def _cells(options: ReproduceOptions, published: Mapping[str, Any], out: Path) -> list[Cell]:
    page: Page = merged(nested(published["options"]), nested(options.run))
    run = checked(reader(), page, published["row"])
    taken = {int(seed) for seed in published["seeds"]}
    seeds = options.seeds or [next(seed for seed in range(len(taken) + 1) if seed not in taken)]
    check_seeds(seeds)
    name = (published["pair"], published["condition"], published["method"])
    return [cell(out, name, run, seed) for seed in seeds]


def _judged(published: Mapping[str, Any], found: Mapping[int, Mapping[str, float]], name: str) -> dict[str, Any] | None:
    """One figure: what was published, what came, and whether new seeds are where they are expected."""
    before = {int(seed): of[name] for seed, of in published["seeds"].items() if name in of}
    now = {seed: of[name] for seed, of in found.items() if name in of}
    new = [value for seed, value in now.items() if seed not in before]
    if not before or not now:
        return None
    bands = {n: band(before.values(), new=n) if len(before) > 1 else None for n in (len(new) or 1, 1)}
    inside = {str(seed): _inside(value, bands[1]) for seed, value in now.items() if seed in before}
    if new:
        inside["new"] = _inside(mean(new), bands[len(new)])
    return {
        "published": {str(seed): value for seed, value in before.items()},
        "found": {str(seed): value for seed, value in now.items()},
        "difference": {str(seed): value - before[seed] for seed, value in now.items() if seed in before},
        "mean_of_new": mean(new) if new else None,
        "band": bands[len(new) or 1],
        "inside": None if len(before) == 1 else all(inside.values()),
        "each_inside": inside,
    }


def _inside(value: float, band: Sequence[float] | None) -> bool | None:
    return None if band is None else band[0] <= value <= band[1]


def _sentence(row: str, name: str, of: Mapping[str, Any]) -> str:
    words = []
    where = {name: "inside" if inside else "OUTSIDE" for name, inside in of["each_inside"].items()}
    if of["band"] is not None and of["mean_of_new"] is not None:
        low, high = of["band"]
        words.append(
            f"{of['mean_of_new']:.2f} % with new seeds, {where['new']} the band of {low:.2f} to {high:.2f} % that the "
            f"{len(of['published'])} published seeds give"
        )
    elif of["mean_of_new"] is not None:
        words.append(f"{of['mean_of_new']:.2f} % with new seeds; one published seed gives no band")
    for seed, difference in of["difference"].items():
        same = "the published figure" if difference == 0 else f"{difference:+.2f} from the published figure"
        same += f", {where[seed]} the band of all" if difference and of["band"] is not None else ""
        words.append(f"seed {seed}: {of['found'][seed]:.2f} %, {same}".replace("+-", "-"))
    return f"{row}, {name}: {'; '.join(words)}"
