"""Runs that differ in nothing but their seed: mean ± sd of each kind, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dlkd.evaluate.figures import NAMES
from dlkd.evaluate.statistics import paired, spread
from dlkd.evaluate.words import difference, mean_and_sd
from dlkd.report.page import Section, Table
from dlkd.report.runs import Part, Run


def over_seeds(runs: Sequence[Run], baseline: Run, part: Part) -> Iterator[Section]:
    """A section, where some run is there with several seeds."""
    kinds: dict[tuple[object, ...], dict[int, Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), {}).setdefault(run.seed, run)
    if all(len(of) == 1 for of in kinds.values()):
        return
    base = kinds[_kind(baseline)]
    rows = []
    for of in kinds.values():
        first = next(iter(of.values()))
        accuracy = {seed: run.figures_of(part)["accuracy"] for seed, run in of.items()}
        row = [", ".join(run.name for run in of.values()), first.method, first.student, ", ".join(map(str, of))]
        row.append(mean_and_sd(spread(accuracy.values())._asdict()))
        if len(kinds) > 1:
            found = paired(accuracy, {seed: run.figures_of(part)["accuracy"] for seed, run in base.items()})
            row.append("" if of is base or found is None else difference(found._asdict()))
        rows.append(row)
    columns = ["runs", "method", "student", "seeds", NAMES["accuracy"]]
    columns += [f"against {_named(base)}, points"] if len(kinds) > 1 else []
    words = "Runs of the same settings but for the seed, mean ± sd."
    if len(kinds) > 1:
        words += (
            " Differences are paired by the seeds that both have, with a 95 % t-interval over seeds: one that has 0 in "
            "it, or none, shows no difference."
        )
    yield Section("Over seeds", [words], Table(columns, rows))


def _kind(run: Run) -> tuple[object, ...]:
    return run.command, run.method, run.student, run.epochs, run.settings


def _named(of: dict[int, Run]) -> str:
    first, *more = of.values()
    return first.name if not more else f"{first.name} and its seeds"
