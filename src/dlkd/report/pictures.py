"""Pictures for reports, as PNG in base64: a report is one file that opens offline."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from dlkd.report.page import DENSITY
from dlkd.report.words import SCORE_WORDS

WIDE, NARROW = 10.0, 4.85
"""Inches; two narrow pictures are as wide as a wide one."""
MANY_EPOCHS = 30
CAPTION = 22
"""Characters of a line over an image of the gallery; more would run into its neighbour."""


def png(figure: Any) -> str:
    """Close a figure and encode it."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A name in letters that the font lacks is drawn as boxes; the page has it in words.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=96 * DENSITY)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def means(names: Sequence[str], values: Sequence[float], spreads: Sequence[float], of: str = "test accuracy, %") -> str:
    """Means with their spread, from above to below. Points: bars would have to begin at zero."""
    figure, axes = plt.subplots(figsize=(NARROW, 1 + 0.42 * len(names)), layout="constrained")
    rows = np.arange(len(names))
    axes.errorbar(values, rows, xerr=spreads, fmt="o", capsize=4)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(f"{value:.1f}", (value, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(rows, names, fontsize=9, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.7)
    axes.margins(x=0.1)
    axes.set_xlabel(of)
    axes.grid(axis="x", color="0.9")
    return png(figure)


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and accuracy over the epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in history]
    # A single epoch is a point: a line through it alone shows nothing.
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(history) < MANY_EPOCHS else {}
    for name in ("loss", "ce", "kd"):
        if any(row.get(name) for row in history):
            left.plot(
                epochs, [row.get(name) for row in history], label={"ce": "CE", "kd": "KD term"}.get(name, name), **style
            )
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    if left.lines:
        left.legend(fontsize=8)
    right.plot(epochs, [row["accuracy"] for row in history], label="training views, labels as given", **style)
    held = [(row["epoch"], row["held_out_accuracy"]) for row in history if row.get("held_out_accuracy") is not None]
    if held:
        right.plot(*zip(*held, strict=True), label="held-out images, labels as given", **style)
    if any(row.get("agreement") for row in history):
        right.plot(epochs, [row["agreement"] for row in history], "--", label="agreement with the teacher", **style)
    right.set(xlabel="epoch", ylabel="%", ylim=(0, 102))
    right.legend(fontsize=8)
    for axes in (left, right):
        axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return png(figure)


def curves_together(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Loss above, accuracy below, one line for each run: on held-out images where it has such, else, dotted, on its
    training views."""
    size = (NARROW, 5.4 + 0.2 * ((len(runs) + 1) // 2))
    figure, (above, below) = plt.subplots(2, 1, figsize=size, layout="constrained", sharex=True)
    lines = {}
    for k, (name, history) in enumerate(runs.items()):
        style = _style(k) | ({"marker": "o", "markersize": 3} if len(history) < MANY_EPOCHS else {})
        (lines[name],) = above.plot([r["epoch"] for r in history], [r["loss"] for r in history], **style)
        held = [(r["epoch"], r["held_out_accuracy"]) for r in history if "held_out_accuracy" in r]
        if held:
            below.plot(*zip(*held, strict=True), **style)
        else:
            of = [r["epoch"] for r in history], [r["accuracy"] for r in history]
            below.plot(*of, **style | {"linestyle": ":"})
    if any(row["loss"] > 0 for history in runs.values() for row in history):
        above.set_yscale("log")
        above.yaxis.set_minor_formatter(NullFormatter())
    above.set(ylabel="training loss")
    below.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 102))
    below.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _names_below(figure, lines)
    return png(figure)


def reliability_diagram(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Accuracy against confidence, one line for each model; the diagonal is perfect calibration."""
    figure, axes = plt.subplots(figsize=(NARROW, 3.6 + 0.2 * ((len(runs) + 1) // 2)), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    lines = {}
    for k, (name, bins) in enumerate(runs.items()):
        of = [b["confidence"] for b in bins], [b["accuracy"] for b in bins]
        (lines[name],) = axes.plot(*of, marker="o", markersize=3, **_style(k))
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
    _names_below(figure, lines)
    return png(figure)


def difficulty(
    distance: ArrayLike, reference: ArrayLike, temperature: ArrayLike | None, of: str = SCORE_WORDS["distance"]
) -> str:
    """Histogram of the distance, and the level or temperature that each distance gets.

    Args:
        distance: ``[N]``, or another score of difficulty.
        reference: quantiles of the reference distances at evenly spaced ranks.
        temperature: at evenly spaced ranks; None shows the rank itself.
        of: what the score is.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDE, 3.2), layout="constrained")
    values, quantiles = np.asarray(distance), np.asarray(reference)
    level = np.linspace(0, 1, quantiles.size)
    if temperature is None:
        right.plot(quantiles, level)
        right.set(xlabel=of, ylabel="level")
    else:
        t = np.asarray(temperature)
        right.plot(quantiles, np.interp(level, np.linspace(0, 1, t.size), t))
        right.set(xlabel=of, ylabel="temperature")
    positive = quantiles[quantiles > 0]
    if positive.size > 1 and positive[-1] > 20 * np.median(positive):
        # Most images would share one bar. What is below the axis is counted in its first bar.
        least, most = max(positive[0], 1e-5 * positive[-1]), max(positive[-1], values.max())
        left.hist(values.clip(least), bins=np.geomspace(least, most, 51))
        for axes in (left, right):
            axes.set(xscale="log", xlim=(least, most))
    else:
        left.hist(values, bins=50)
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(6))
    left.set(xlabel=of, ylabel="images")
    return png(figure)


def accuracy_by_level(runs: Mapping[str, Sequence[Mapping[str, float]]], ylabel: str = "test accuracy, %") -> str:
    """One line for each model over the tenths of the difficulty level."""
    figure, axes = plt.subplots(figsize=(NARROW, 3.4 + 0.2 * ((len(runs) + 1) // 2)), layout="constrained")
    lines = {}
    for k, (name, rows) in enumerate(runs.items()):
        of = [r["decile"] for r in rows], [r["accuracy"] for r in rows]
        (lines[name],) = axes.plot(*of, marker="o", markersize=3, **_style(k))
    axes.set(xlabel="tenth of the difficulty level, easy to hard", ylabel=ylabel, ylim=(0, 102))
    _tenths(axes)
    _names_below(figure, lines)
    return png(figure)


def memorisation(parts: Mapping[str, Mapping[str, float]]) -> str:
    """Of mislabelled images, the shares whose wrong label, true label or neither is named: one bar for each part."""
    figure, axes = plt.subplots(figsize=(NARROW, 1.5 + 0.45 * len(parts)), layout="constrained")
    rows, left = np.arange(len(parts)), np.zeros(len(parts))
    for name, colour in (("wrong_label", "C3"), ("true_label", "C2"), ("neither", "0.8")):
        shares = np.array([part[name] for part in parts.values()])
        bars = axes.barh(rows, shares, left=left, color=colour, label=name.replace("_", " "))
        # A number would not fit into a sliver.
        axes.bar_label(bars, [f"{s:.0f}" if s >= 8 else "" for s in shares], label_type="center", fontsize=8)
        left += shares
    axes.set_yticks(rows, list(parts), fontsize=9, parse_math=False)
    axes.set(ylim=(len(parts) - 0.5, -0.5), xlim=(0, 100), xlabel="% of the mislabelled images")
    figure.legend(fontsize=8, ncols=3, loc="outside lower center")
    return png(figure)


def by_level_over_epochs(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the method did to each tenth of the difficulty level, first and last epoch."""
    figure, grid = plt.subplots(1, 3, figsize=(WIDE, 3), layout="constrained")
    epochs = sorted({row["epoch"] for row in rows})
    shown = (("temperature", "mean temperature"), ("gradient_weight", "gradient weight"), ("agreement", "agreement, %"))
    for axes, (name, label) in zip(grid, shown, strict=True):
        for epoch in dict.fromkeys((*epochs[:1], *epochs[-1:])):
            part = [row for row in rows if row["epoch"] == epoch]
            axes.plot([r["decile"] for r in part], [r[name] for r in part], "o-", markersize=3, label=f"epoch {epoch}")
        axes.set(xlabel="tenth of the difficulty level", ylabel=label)
        _tenths(axes)
    if epochs:
        grid[0].legend(fontsize=8)
    return png(figure)


def gallery(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> str:
    """Images ``[H, W]`` or ``[H, W, 3]`` in [0, 1] with a caption each; long lines of it are cut."""
    rows = -(-len(images) // columns)
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    height = WIDE / columns + 0.16 * lines
    figure, grid = plt.subplots(rows, columns, figsize=(WIDE, height * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    longest = max((len(line) for caption in captions for line in caption.split("\n")), default=0)
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image, cmap="gray_r" if image.ndim == 2 else None, vmin=0, vmax=1)
        text = "\n".join(_cut(line) for line in caption.split("\n"))
        # A dollar sign in a class name is not mathematics.
        axes.set_title(text, fontsize=8 if longest < 18 else 6.5, parse_math=False)
    return png(figure)


def _style(k: int) -> dict[str, Any]:
    """Of the k-th line: ten colours, then the same in other dashes."""
    return {"color": f"C{k % 10}", "linestyle": ("-", "--", "-.", (0, (1, 1)))[k // 10 % 4]}


def _names_below(figure: Any, lines: Mapping[str, Any]) -> None:
    """A legend of names as they are: a dollar sign is not mathematics, an underscore in front hides nothing."""
    if not lines:
        return
    names = [f" {_cut(name)}" if name.startswith("_") else _cut(name) for name in lines]
    legend = figure.legend(list(lines.values()), names, fontsize=8, ncols=2, loc="outside lower center")
    for text in legend.get_texts():
        text.set_parse_math(False)


def _tenths(axes: Any) -> None:
    axes.set_xlim(0.5, 10.5)
    axes.set_xticks(range(1, 11))


def _cut(line: str) -> str:
    return line if len(line) <= CAPTION else f"{line[: CAPTION - 1]}…"
