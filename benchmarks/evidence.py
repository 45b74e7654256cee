"""Renew the tables of measured results in the pages, from the files in results/: python benchmarks/evidence.py

A table stands between `<!-- KIND FILE ... -->` and `<!-- end -->`:

    <!-- means weights.json -->           methods by conditions, the accuracy that counts
    <!-- means weights.json held_out -->  the same of another figure
    <!-- part mapping.json sym40 -->      everything about one condition
    <!-- quickstart quickstart.json -->   the rows of `make quickstart`
    <!-- audit audit.json auroc -->       how well each score finds wrong labels; "short" leaves some out
    <!-- actions audit.json -->           what the suggestions of an audit are worth
    <!-- ship ship.json -->               a student beside its teacher: accuracy, size, time
    <!-- temperatures temperature-by-level.json -->  what the labels ask for at each level
    <!-- mixtures mixtures.json -->       what the probe's predictions add to the teacher's
    <!-- tuning contest-tune.json -->     what each method was tuned to
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlkd.compare.render import markdown
from dlkd.compare.tables import NOT_RUN, headline, parts
from dlkd.compare.tune import table
from dlkd.evaluate.words import mean_and_sd
from dlkd.files import write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("evidence", "audit", "tutorial")))
Found = Mapping[str, Any]


def means(found: Found, figure: str = "") -> str:
    """Methods by conditions: mean ± sd over seeds."""
    places = list(dict.fromkeys((row["pair"], row["condition"]) for row in found["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    lines = [[method] for method in methods]
    for place in places:
        rows = {row["method"]: row for row in found["rows"] if (row["pair"], row["condition"]) == place}
        shown = figure or headline(list(rows.values()))
        for line, method in zip(lines, methods, strict=True):
            of = rows[method]["figures"].get(shown)
            line.append(NOT_RUN if of is None else mean_and_sd(of))
    columns = ["method", *(" / ".join(name for name in place if name != "all") for place in places)]
    return markdown(columns, lines)


def part(found: Found, title: str) -> str:
    """Everything about one condition."""
    wanted = next((each for each in parts(found) if each.title == title), None)
    if wanted is None:
        raise SystemExit(f"expected one of {[each.title for each in parts(found)]}, but got {title}")
    return markdown(wanted.columns, wanted.rows)


TEACHERS = {"none": "–", "clean": "clean labels (an oracle)", "noisy": "the same noisy labels"}


def quickstart(found: Found) -> str:
    """The students of ``make quickstart``."""
    students = [row for row in found["summary"]["table"] if row["method"] != "teacher"]
    rows = [[TEACHERS[row["teacher"]], row["method"], mean_and_sd(row)] for row in students]
    return markdown(["teacher trained on", "method", "test accuracy %"], rows, "llr")


SHORT = ("self-confidence", "margin", "distance, τ = ¼", "teacher + probe 0.3", "two views", "posterior")


def audit(found: Found, figure: str, short: str = "") -> str:
    """Scores by kinds of noise: mean ± sd over seeds, in hundredths; in ``short`` the most telling ones alone."""
    noises = list(dict.fromkeys(row["noise"] for row in found["summary"]))
    of = {(row["score"], row["noise"]): row[figure] for row in found["summary"]}
    scores = [row["score"] for row in found["summary"] if row["noise"] == noises[0]]
    shown = [score for score in scores if not short or score in SHORT or score.startswith("cleanlab")]
    rows = [[score, *(_hundredths(of[score, noise]) for noise in noises)] for score in shown]
    return markdown(["score", *noises], rows)


def _hundredths(of: Mapping[str, float | None]) -> str:
    mean, sd = of["mean"], of["sd"]
    assert mean is not None
    return f"{100 * mean:.2f}" if sd is None else f"{100 * mean:.2f} ± {100 * sd:.2f}"


def actions(found: Found) -> str:
    """What the suggestions are worth, mean over seeds."""
    rows = []
    for noise in dict.fromkeys(row["noise"] for row in found["rows"]):
        these = [row["actions"] for row in found["rows"] if row["noise"] == noise]
        for name in these[0]:
            shares = ("precision", "recall", "right")
            cells = [statistics.fmean(each[name].get(share, float("nan")) for each in these) for share in shares]
            images = statistics.fmean(each[name]["images"] for each in these)
            rows.append([noise, name, f"{images:.0f}", *("" if c != c else f"{100 * c:.1f}" for c in cells)])
    return markdown(
        ["noise", "suggestion", "images", "wrong of these, %", "of all wrong, %", "suggested right, %"], rows
    )


SHIPPED = {
    ("teacher", "PyTorch"): "teacher",
    ("student", "PyTorch"): "student",
    ("student", "ONNX Runtime"): "onnx",
    ("student, int8", "ONNX Runtime"): "int8",
}


def ship(found: Found) -> str:
    """Accuracy of all seeds beside size and times of the first: teacher, student, its files, the student alone."""
    rows = [["student alone", "PyTorch", mean_and_sd(found["accuracy"]["alone"]), "", "", ""]]
    for of in found["benchmark"]["rows"]:
        name = SHIPPED.get((of["model"], of["engine"]))
        figures = "" if name is None else mean_and_sd(found["accuracy"][name])
        times = [f"{of[f'median_ms_{n}']:.1f} / {of[f'p95_ms_{n}']:.1f}" for n in found["benchmark"]["batches"]]
        rows.append([of["model"], of["engine"], figures, f"{of['megabytes']:.1f}", *times])
    times = [f"ms for {n}, median / 95 %" for n in found["benchmark"]["batches"]]
    return markdown(["model", "runs in", "test accuracy %", "size, MB", *times], rows, "llrrrr")


def temperatures(found: Found) -> str:
    """The temperature that the true labels ask for in each fifth of the distance, with its interval."""
    rows = []
    for of in found["rows"]:
        if of["score"] != "distance, τ = ¼":
            continue
        fifths = [f"{each['t']:.2f} [{each['low']:.2f}, {each['high']:.2f}]" for each in of["fifths"]]
        rows.append([*_where(of), *fifths, _thousandths(of["nats"])])
    columns = ["teacher", "view", "easiest fifth", "second", "third", "fourth", "hardest", "worth, nats/1000"]
    return markdown(columns, rows, "llrrrrrr")


def mixtures(found: Found) -> str:
    """What z_t + b·(z_t − z_p) is worth over z_t, with the probe of sparsity 0.3."""
    rows, shown = [], ("-1", "-0.3", "-0.1", "0.1", "0.3", "1")
    for of in found["rows"]:
        if of["sparsity"] == 0.3:
            worth = [of["factors"][b]["nats"] for b in shown] + [of["best"]["nats"], of["by_fifth"]["nats"]]
            rows.append([*_where(of), *map(_thousandths, worth)])
    columns = ["teacher", "view", *(f"b = {float(b):+g}" for b in shown), "best b", "for each fifth"]
    return markdown(columns, rows, "ll" + "r" * (len(shown) + 2))


def tuning(found: Found) -> str:
    """A row for each method: as it was, its best trial, and what that is."""
    columns, rows = table(found)
    done = {row["method"]: sum(trial["mean"] is not None for trial in row["trials"]) for row in found["methods"]}
    rows = [[*row[:-1], f"{done[row[0]]} of {found['trials']}", row[-1]] for row in rows]
    return markdown([*columns[:-1], "trials", columns[-1]], rows)


def _where(of: Found) -> tuple[str, str]:
    """Teacher and view in words."""
    return of["teacher"].removeprefix("cifar100-"), of["view"].removesuffix("-0").replace("_", ", ")


def _thousandths(nats: Mapping[str, float]) -> str:
    return f"{1000 * nats['mean']:+.1f} ± {1000 * nats['error']:.1f}"


KINDS: dict[str, Callable[..., str]] = {
    "means": means,
    "part": part,
    "quickstart": quickstart,
    "audit": audit,
    "actions": actions,
    "ship": ship,
    "temperatures": temperatures,
    "mixtures": mixtures,
    "tuning": tuning,
}

BLOCK = re.compile(rf"(<!-- ({'|'.join(KINDS)}) (\S+)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str, results: Path = RESULTS) -> str:
    """The text of a page with every table as its file says."""

    def table(block: re.Match[str]) -> str:
        start, kind, file, rest, end = block.groups()
        return f"{start}{KINDS[kind](json.loads((results / file).read_text()), *rest.split())}{end}"

    return BLOCK.sub(table, text)


def main() -> None:
    """Renew all pages."""
    for page in PAGES:
        write_atomic(page, renewed(page.read_text()))


if __name__ == "__main__":
    main()
