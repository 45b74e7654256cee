"""The tables of a comparison, for people: the same cells on the screen, in Markdown, LaTeX, CSV and the report."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.compare.names import ONE
from dlkd.evaluate.words import VERDICTS, difference, mean_and_sd

NOT_RUN = "not run"
TITLES = {
    "test": "test %",
    "held_out": "held-out %",
    "held_out_clean": "true labels %",
    "ece": "ECE %",
    "wrong_label": "memorised %",
    "seconds": "seconds",
}
"""Short, since ten methods by these columns are to fit a screen; :data:`MEANINGS` says what they are."""
MEANINGS = {
    "test": "test %: accuracy on the test images",
    "held_out": "held-out %: accuracy on the held-out training images with their labels as given, which may be wrong",
    "held_out_clean": "true labels %: the same images with their true labels",
    "ece": "ECE %: expected calibration error, held-out images with their labels as given",
    "wrong_label": "memorised %: wrong training labels that the student answers",
    "seconds": "seconds: of training; who comes first with a teacher fills the store for the others",
}
LEVEL = 0.05
"""Of the adjusted p, as the intervals are of 95 %."""
DIGITS = {"seconds": 0}
HEADLINE = ("test", "held_out_clean", "held_out")
"""The accuracy that differences are shown of: the first that all rows can have."""


class Part(NamedTuple):
    """The table of one pair under one condition."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """The accuracy that counts for these rows: of test images where they were read, else of held-out images by the
    best labels that are known."""
    run = [row for row in rows if row["seeds"]]
    return next((name for name in HEADLINE if run and all(name in row["figures"] for row in run)), "held_out")


def parts(found: Mapping[str, Any]) -> list[Part]:
    """A table for each pair and condition."""
    places = list(dict.fromkeys((row["pair"], row["condition"]) for row in found["rows"]))
    return [_part(found, place) for place in places]


def together(tables: Sequence[Part]) -> Part:
    """All tables as one, led by their titles: each cell under its own column, which is empty for tables without it."""
    order = {name: place for place, name in enumerate(["method", *TITLES.values()])}
    named = dict.fromkeys(name for table in tables for name in table.columns)
    columns = sorted(named, key=lambda name: order.get(name, len(order)))  # the differences last, as they come
    rows = []
    for table in tables:
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            rows.append([table.title, *(cells.get(name, "") for name in columns)])
    return Part("Comparison", ["where", *columns], rows)


def _part(found: Mapping[str, Any], place: tuple[str, str]) -> Part:
    rows = [row for row in found["rows"] if (row["pair"], row["condition"]) == place]
    head = headline(rows)
    shown = [name for name in TITLES if any(name in row["figures"] for row in rows)]
    best = next((c["against"] for c in found["compared"] if _is_at(c, place) and c["best_baseline"]), None)
    against = list(dict.fromkeys(name for name in (found["baseline"], best) if name is not None))
    columns = ["method", *(TITLES[name] for name in shown)]
    columns += [f"− {name}" for name in against]
    return Part(
        " / ".join(name for name in place if name != ONE) or "methods",
        columns,
        [_row(found, row, shown, against, head) for row in rows],
    )


def _row(
    found: Mapping[str, Any], row: Mapping[str, Any], shown: Sequence[str], against: Sequence[str], head: str
) -> list[str]:
    seeds = len(found["seeds"])
    name = row["method"] + (f" ({len(row['seeds'])} of {seeds} seeds)" if row["seeds"] and row["not_run"] else "")
    if not row["seeds"]:
        return [name, NOT_RUN, *([""] * (len(shown) + len(against) - 1))]
    cells = [_figure(row["figures"].get(figure), figure, len(row["seeds"])) for figure in shown]
    return [name, *cells, *(difference(_found(found, row, other, head)) for other in against)]


def _figure(of: Mapping[str, Any] | None, figure: str, seeds: int) -> str:
    """With n where fewer seeds have it than were run."""
    shown = mean_and_sd(of, digits=DIGITS.get(figure, 2))
    return shown if of is None or of["n"] == seeds else f"{shown} (n = {of['n']})"


def _found(found: Mapping[str, Any], row: Mapping[str, Any], other: str, figure: str) -> Mapping[str, Any] | None:
    wanted = (row["method"], other, figure)
    place = (row["pair"], row["condition"])
    return next(
        (c for c in found["compared"] if _is_at(c, place) and (c["method"], c["against"], c["figure"]) == wanted),
        None,
    )


def _is_at(compared: Mapping[str, Any], place: tuple[str, str]) -> bool:
    return (compared["pair"], compared["condition"]) == place


def flat(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """One line for each seed of each row, every figure to the last digit, for other programs."""
    figures = list(dict.fromkeys(name for row in found["rows"] for name in row["figures"])) or [HEADLINE[-1]]
    lines = []
    for row in found["rows"]:
        place = [row["pair"], row["condition"], row["method"]]
        for seed, of in row["seeds"].items():
            lines.append([*place, seed, *(repr(of[name]) if name in of else "" for name in figures)])
        lines += [[*place, str(seed), *([NOT_RUN] + [""] * (len(figures) - 1))] for seed in row["not_run"]]
    return ["pair", "condition", "method", "seed", *figures], lines


def print_tables(found: Mapping[str, Any]) -> None:
    """All tables, and what they mean."""
    for part in parts(found):
        print_part(part, words=part.columns[:1])
    for line in sentences(found):
        Console().print(Text(f"- {line}"), soft_wrap=True)


def print_part(part: Part, words: Collection[str]) -> None:
    """On the screen, and in a file of it as wide as it is; columns of ``words`` to the left."""
    console = Console()
    if not console.is_terminal:
        console.width = 200
    table = Table(title=Text(part.title), box=SIMPLE)
    for column in part.columns:
        table.add_column(Text(column), justify="left" if column in words else "right")
    for row in part.rows:
        table.add_row(*map(Text, row))
    console.print(table)


def sentences(found: Mapping[str, Any]) -> list[str]:
    """What the tables mean, and what they do not."""
    read = any("test" in row["figures"] for row in found["rows"])
    shown = [words for name, words in MEANINGS.items() if any(name in row["figures"] for row in found["rows"])]
    lines = [
        "Last epoch, mean ± sd over seeds; differences are paired by seed, with a t-interval over seeds (95 %).",
        "; ".join(shown) + ".",
        "Test images were read with --final." if read else "The test images have not been read.",
    ]
    for place in dict.fromkeys((row["pair"], row["condition"]) for row in found["rows"]):
        rows = [row for row in found["rows"] if (row["pair"], row["condition"]) == place]
        head, where = headline(rows), " / ".join(name for name in place if name != ONE)
        for c in found["compared"]:
            if _is_at(c, place) and c["best_baseline"] and c["figure"] == head:
                lines.append(f"{where + ': ' if where else ''}{_verdict(c)}")
    missing = sum(len(row["not_run"]) for row in found["rows"])
    failed = [f"{row['row']} seed {seed}: {why}" for row in found["rows"] for seed, why in row["failed"].items()]
    return [*lines, *([f"{missing} cells were not run."] if missing else []), *failed]


def _verdict(c: Mapping[str, Any]) -> str:
    images, words = c["images"], VERDICTS[c["verdict"]]
    if c["verdict"] in ("ahead", "behind") and (doubts := list(_doubts(c))):
        words += f", but not {' and not '.join(doubts)}: no sure difference"
    corrected = "" if c["p_holm"] is None else f"; p {c['p_holm']:.2g} by Holm over all baselines"
    over = "" if images is None else f"; over images [{images['low']:+.2f}, {images['high']:+.2f}]".replace("-", "−")
    return f"{c['method']} − {c['against']}, the best baseline: {difference(c)} points, {words}{corrected}{over}."


def _doubts(c: Mapping[str, Any]) -> Iterator[str]:
    """What else a claim needs, beside an interval over seeds that leaves zero out."""
    if c["p_holm"] is not None and c["p_holm"] >= LEVEL:
        yield "by Holm"
    if c["images"] is not None and c["images"]["low"] <= 0 <= c["images"]["high"]:
        yield "over images"
