"""The plot of `docs/evidence/score.md`, from `results/score.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from score_columns import DOUBT_COLUMN, SPARSITIES

MASKS = {"global": "global-{:g}", "layer": "layer-{:g}", "random": "global-{:g}-random0"}
"""Three ways to choose the weights that go → name of the probe."""
CURVES = {
    "global, τ_d 1": "global-{:g}/l2/tau1",
    "global, τ_d ¼": "global-{:g}/l2/tau0.25",
    "layer, τ_d ¼": "layer-{:g}/l2/tau0.25",
    "random, τ_d ¼": "global-{:g}-random0/l2/tau0.25",
}
TARGETS = {
    "own_error": "own error",
    "other_error": "another's error",
    "human": "people err",
    "given_wrong": "label wrong",
}


Found = Mapping[str, Any]


def by_score(rows: Sequence[Found]) -> dict[str, Found]:
    """The rows of a table by the name of their score."""
    return {row["score"]: row for row in rows}


def plot(path: Path, found: Found) -> None:
    """AUROC by sparsity: a panel for each teacher and target, 1 − max p as the line to beat."""
    targets, teachers = ("own_error", "human"), found["teachers"]
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "score", "font.size": 8}):
        figure = Figure(figsize=(8, 4.8))
        axes = figure.subplots(len(targets), len(teachers), sharex=True, sharey="row", squeeze=False)
        for row, target in zip(axes, targets, strict=True):
            for axis, (name, t) in zip(row, teachers.items(), strict=True):
                rows = by_score(t["rows"])
                for title, pattern in CURVES.items():
                    y = [rows[pattern.format(s)][target] for s in SPARSITIES]
                    (line,) = axis.plot(SPARSITIES, [v[0] for v in y], linewidth=1, label=title)
                    low, high = [v[1] for v in y], [v[2] for v in y]
                    axis.fill_between(SPARSITIES, low, high, color=line.get_color(), alpha=0.15, lw=0)
                axis.axhline(rows[DOUBT_COLUMN][target][0], color="k", ls="--", lw=1, label="1 − max p")
                axis.set_title(f"{name}: {TARGETS[target]}")
            row[0].set_ylabel("AUROC")
        for axis in axes[-1]:
            axis.set_xlabel("sparsity")
        lines, titles = axes[0][0].get_legend_handles_labels()
        figure.legend(lines, titles, loc="lower center", ncols=len(titles), frameon=False)
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        figure.savefig(path, metadata={"Date": None, "Creator": None})
