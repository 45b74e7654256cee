"""What the cells of a comparison found: every seed, means, paired differences, tenths of the difficulty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlkd.compare.found import FIGURES, Found, read_cells, reason_of
from dlkd.compare.study import WHERE, Cell, CompareOptions
from dlkd.compare.work import failure
from dlkd.evaluate.statistics import Paired, bootstrap_difference, by_decile, holm, paired, spread
from dlkd.jobs.card import plain

COMPARED = ("held_out", "held_out_clean", "test")
"""Accuracies whose differences are taken seed by seed."""
ABOUT = ("versions", "machine", "threads", "accelerator")


def collect(options: CompareOptions, cells: Sequence[Cell]) -> dict[str, Any]:
    """The content of ``results.json`` of the comparison.

    Raises:
        UserError: see :func:`read_cells`.
    """
    done = {each.cell.options.out: each for each in read_cells(cells)}
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell[:3], []).append(cell)
    found: dict[str, Any] = {
        "command": "compare",
        "recipe": options.recipe,
        "seeds": options.seed_list,
        "baseline": options.baseline,
        "ours": options.our_methods,
        "rows": [_row(of, done, options) for of in rows.values()],
        "compared": list(_compared(options, rows, done)),
    }
    for each in done.values():
        found |= {key: each.results[key] for key in ABOUT if key in each.results}
    return found


def _row(cells: Sequence[Cell], done: Mapping[Path, Found], options: CompareOptions) -> dict[str, Any]:
    first = cells[0]
    of = {cell.seed: done[cell.options.out] for cell in cells if cell.options.out in done}
    seeds = {str(seed): each.figures for seed, each in of.items()}
    failed = {str(c.seed): reason_of(c) for c in cells if failure(c).is_file()}
    names = [name for name in FIGURES if any(name in figures for figures in seeds.values())]
    return {
        "row": first.row,
        "pair": first.pair,
        "condition": first.condition,
        "method": first.method,
        "ours": first.method in options.our_methods,
        "options": _public(first),
        "settings": next((each.results["method"] for each in of.values()), None),
        "seeds": seeds,
        "not_run": [cell.seed for cell in cells if cell.seed not in of],
        "failed": failed,
        "figures": {name: spread(f[name] for f in seeds.values() if name in f)._asdict() for name in names},
        "deciles": _deciles(list(of.values()), [f for f in done.values() if f.cell[:2] == first[:2]]),
    }


def _public(cell: Cell) -> dict[str, Any]:
    """The options that make the cell again, without what is only of this machine."""
    page: dict[str, Any] = plain(cell.options)
    data = {k: v for k, v in page["data"].items() if k not in WHERE}
    page = {k: v for k, v in page.items() if k not in ("out", "seed", "store", "resume", "overwrite", "force")}
    return {**page, "data": data}


def _deciles(of: Sequence[Found], same: Sequence[Found]) -> list[dict[str, Any]]:
    """Accuracy by tenth of the difficulty of the held-out images, by their true labels where those are known."""
    # Of a run whose difficulty is the distance, if there is one: it is that of the paper, and looks at no label.
    ordered = sorted(same, key=lambda f: f.results["method"].get("score", "distance") != "distance")
    distance = next((f.answers.distance for f in ordered if f.answers.distance is not None), None)
    if distance is None or not of:
        return []
    known = [f.answers.right.get("held_out_clean", f.answers.right.get("held_out")) for f in of]
    right = [answers for answers in known if answers is not None]
    if not right or any(len(r) != len(distance) for r in right):
        return []
    return [tenth._asdict() for tenth in by_decile(np.mean(right, axis=0), distance)]


def _compared(
    options: CompareOptions, rows: Mapping[tuple[str, str, str], Sequence[Cell]], done: Mapping[Path, Found]
) -> Iterator[dict[str, Any]]:
    for place in dict.fromkeys(name[:2] for name in rows):
        of: dict[str, dict[int, Found]] = {
            name[2]: {c.seed: done[c.options.out] for c in cells if c.options.out in done}
            for name, cells in rows.items()
            if name[:2] == place
        }
        for figure in COMPARED:
            yield from ({"pair": place[0], "condition": place[1], **found} for found in _at(options, of, figure))


def _at(options: CompareOptions, of: Mapping[str, Mapping[int, Found]], figure: str) -> Iterator[dict[str, Any]]:
    """The differences of one figure in one condition: all methods to the baseline, ours to each of the others."""
    values = {m: {s: f.figures[figure] for s, f in by.items() if figure in f.figures} for m, by in of.items()}
    ours = [m for m in options.our_methods if values.get(m)]
    others = [m for m in of if m not in options.our_methods and values[m]]
    best = best_of({m: {s: f.figures["held_out"] for s, f in by.items()} for m, by in of.items() if m in others})
    for method in of:
        against = others if method in ours else [options.baseline]
        pairs = {o: paired(values[method], values[o]) for o in against if o in values and o != method}
        known = {other: found for other, found in pairs.items() if found is not None}
        tested = [other for other, found in known.items() if found.p is not None]
        adjusted = dict(zip(tested, holm([_p(known[other]) for other in tested]), strict=True))
        for other, found in known.items():
            yield {
                "method": method,
                "against": other,
                "figure": figure,
                "best_baseline": other == best,
                **found._asdict(),
                "p_holm": adjusted.get(other),
                "images": _over_images(of[method], of[other], figure),
            }


def _p(found: Paired) -> float:
    assert found.p is not None
    return found.p


def best_of(held_out: Mapping[str, Mapping[int, float]]) -> str | None:
    """The method of the largest mean on held-out images with their labels as given, of those with most seeds."""
    most = max((len(values) for values in held_out.values()), default=0)
    means = {m: sum(v.values()) / len(v) for m, v in held_out.items() if len(v) == most and v}
    return max(means, key=lambda m: means[m]) if means else None


def _over_images(ours: Mapping[int, Found], theirs: Mapping[int, Found], figure: str) -> dict[str, float] | None:
    seeds = [
        s
        for s in sorted(ours.keys() & theirs.keys())
        if figure in ours[s].answers.right and figure in theirs[s].answers.right
    ]
    if not seeds:
        return None
    right = [np.stack([by[s].answers.right[figure] for s in seeds]) for by in (ours, theirs)]
    return None if right[0].shape != right[1].shape else bootstrap_difference(*right)._asdict()
