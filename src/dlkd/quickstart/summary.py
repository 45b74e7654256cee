"""Mean ± sd over seeds, and whether a difference is larger than its spread."""

from __future__ import annotations

import statistics
from typing import Any

from rich.console import Console
from rich.table import Table


def summarise(rows: list[dict[str, Any]], test_images: int) -> dict[str, Any]:
    """Group rows by method and teacher; compare DLKD with KD seed by seed (paired)."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["method"], row["teacher"]), []).append(row)
    table = [
        {
            "method": method,
            "teacher": teacher,
            "seeds": len(group),
            "mean": statistics.fmean(r["accuracy"] for r in group),
            "sd": _sd([r["accuracy"] for r in group]),
            "ece": statistics.fmean(r["ece"] for r in group),
        }
        for (method, teacher), group in groups.items()
    ]
    comparisons = []
    for teacher in ("clean", "noisy"):
        pairs = zip(groups[("DLKD", teacher)], groups[("KD", teacher)], strict=True)
        difference = [a["accuracy"] - b["accuracy"] for a, b in pairs]
        mean, sd = statistics.fmean(difference), _sd(difference)
        # One seed has no spread, so it can show no difference.
        exceeds = sd is not None and abs(mean) > sd
        comparisons.append({"teacher": teacher, "mean": mean, "sd": sd, "exceeds_spread": exceeds})
    return {"table": table, "comparisons": comparisons, "points_per_image": 100 / test_images}


def print_table(summary: dict[str, Any], seconds: float) -> None:
    """The table and the sentences without which it would mislead."""
    console = Console()
    table = Table(title="Digits, wrong training labels, clean test labels, last epoch")
    for column in ("teacher", "method", "test accuracy %", "calibration error %"):
        table.add_column(column)
    for row in summary["table"]:
        table.add_row(row["teacher"], row["method"], spread(row["mean"], row["sd"]), f"{row['ece']:.1f}")
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
    ]
    for c in summary["comparisons"]:
        verdict = (
            "one seed, which can show no difference"
            if c["sd"] is None
            else "larger than its spread over seeds (one sd of the paired differences; not a significance test)"
            if c["exceeds_spread"]
            else "no difference: within the spread over seeds"
        )
        lines.append(f"DLKD − KD, {c['teacher']} teacher: {spread(c['mean'], c['sd'], '+')} points, {verdict}.")
    return lines


def spread(mean: float, sd: float | None, sign: str = "") -> str:
    """``mean ± sd``, or the mean alone where one seed has no spread."""
    return f"{mean:{sign}.2f}".replace("-", "−") + ("" if sd is None else f" ± {sd:.2f}")


def _sd(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
