"""The figures of one evaluation for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.errors import printable
from dlkd.evaluate.figures import NAMES

_LABELS = {"clean": "clean labels", "given": "the labels as given", "unknown": "nobody knows which labels"}
_WHOSE = {"train": "training", "held_out": "held-out"}


def print_figures(found: Mapping[str, Any], title: str) -> None:
    """Print what :func:`dlkd.evaluate.robustness` found."""
    console = Console()
    table = Table("figure", "value", title=Text(printable(title)))
    for name, value in _rows(found):
        table.add_row(name, value)
    console.print(table)
    if "by_level" in found:
        console.print(_tenths(found["by_level"]))
    if "corruptions" in found:
        console.print(_corruptions(found["corruptions"]))


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("images", str(found["images"]))]
    rows += [(words, f"{found[name]:.4g}") for name, words in NAMES.items() if name in found]
    if "agreement" in found:
        rows.append(("agreement with the teacher, %", f"{found['agreement']:.4g}"))
        rows.append(("KL(teacher ‖ model), nats", f"{found['kl_to_teacher']:.4g}"))
    if "teacher" in found:
        labels = "true labels: an oracle" if found["teacher"]["oracle"] else _LABELS[found["teacher"]["labels"]]
        rows.append(("  it was trained on", labels))
    for part, shares in found.get("memorisation", {}).items():
        lead = f"{shares['images']} wrongly labelled {_WHOSE.get(part, part)} images"
        for key, words in (
            ("wrong_label", "says the wrong label"),
            ("true_label", "the true one"),
            ("neither", "neither"),
        ):
            rows.append((f"{lead}: {words}, %" if key == "wrong_label" else f"  {words}, %", f"{shares[key]:.4g}"))
    if "corruptions" in found:
        rows.append(("mean error under corruption, %", f"{found['corruptions']['mean_error']:.4g}"))
        rows.append(("  above the error on clean images", f"{found['corruptions']['relative_error']:.4g}"))
    return rows


def _tenths(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="By difficulty, easiest tenth of the training views first")
    for column in ("tenth", "images", "accuracy, %", "teacher, %", "agreement, %"):
        table.add_column(column, justify="right")
    for row in rows:
        shown = (f"{row[k]:.1f}" for k in ("accuracy", "teacher_accuracy", "agreement"))
        table.add_row(str(row["decile"]), str(row["samples"]), *shown)
    return table


def _corruptions(found: Mapping[str, Any]) -> Table:
    table = Table("corruption", title="Accuracy under corruption by severity, %")
    for column in (*map(str, found["severities"]), "mean"):
        table.add_column(column, justify="right")
    for name, values in found["accuracy"].items():
        table.add_row(name, *(f"{v:.1f}" for v in (*values, sum(values) / len(values))))
    return table
