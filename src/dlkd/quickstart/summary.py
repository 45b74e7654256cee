"""Mean ± sd over seeds, and whether a difference is larger than its interval."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from dlkd.evaluate.statistics import paired, spread
from dlkd.evaluate.words import VERDICTS, difference, mean_and_sd


def summarise(rows: list[dict[str, Any]], test_images: int) -> dict[str, Any]:
    """Group rows by method and teacher; compare DLKD with KD seed by seed, as ``dlkd compare`` does."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["teacher"]), []).append(row)
    table = []
    for (method, teacher), group in groups.items():
        accuracy, ece = (spread(row[figure] for row in group) for figure in ("accuracy", "ece"))
        of = {"seeds": accuracy.n, "mean": accuracy.mean, "sd": accuracy.sd, "ece": ece.mean}
        table.append({"method": method, "teacher": teacher, **of})
    comparisons = []
    for teacher in ("clean", "noisy"):
        ours, theirs = ({r["seed"]: r["accuracy"] for r in groups[method, teacher]} for method in ("DLKD", "KD"))
        found = paired(ours, theirs)
        assert found is not None  # both are trained for every seed
        comparisons.append({"teacher": teacher, **found._asdict()})
    return {"table": table, "comparisons": comparisons, "points_per_image": 100 / test_images}


def print_table(summary: dict[str, Any], seconds: float) -> None:
    """The table and the sentences without which it would mislead."""
    console = Console()
    table = Table(title="Digits, wrong training labels, clean test labels, last epoch")
    for column in ("teacher", "method", "test accuracy %", "calibration error %"):
        table.add_column(column)
    for row in summary["table"]:
        table.add_row(row["teacher"], row["method"], mean_and_sd(row), f"{row['ece']:.1f}")
    console.print(table)
    for line in sentences(summary):
        console.print(f"- {line}", soft_wrap=True)
    console.print(f"{seconds:.0f} s")


def sentences(summary: dict[str, Any]) -> list[str]:
    """What the table means, in words."""
    lines = [
        "The clean teacher is an oracle: it was trained on the true labels of these very images, which "
        "nobody with noisy labels has. Only the noisy teacher is a realistic case.",
        f"One test image is worth {summary['points_per_image']:.2f} points.",
        "Differences are paired by seed, with a t-interval over seeds (95 %), on the same test images.",
    ]
    for c in summary["comparisons"]:
        lines.append(f"DLKD − KD, {c['teacher']} teacher: {difference(c)} points, {VERDICTS[c['verdict']]}.")
    return lines
