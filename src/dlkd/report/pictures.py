"""Pictures for reports, as PNG in base64: a report is one file that opens offline."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import ArrayLike


def png(figure: Any) -> str:
    """Close a figure and encode it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()


def bars(names: Sequence[str], means: Sequence[float], spreads: Sequence[float]) -> str:
    """Means with their spread."""
    figure, axes = plt.subplots(figsize=(9, 3.5), layout="constrained")
    axes.bar(names, means, yerr=spreads, capsize=4)
    axes.set(ylabel="test accuracy, %", ylim=(max(0, min(means) - 10), 100))
    axes.tick_params(axis="x", labelsize=8)
    return png(figure)


def curves(history: Sequence[Mapping[str, Any]]) -> str:
    """Loss and accuracy over the epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for name in ("loss", "ce", "kd"):
        if any(row[name] for row in history):
            left.plot(epochs, [row[name] for row in history], label={"ce": "CE", "kd": "KD term"}.get(name, name))
    left.set(xlabel="epoch", yscale="log")
    left.legend()
    right.plot(epochs, [row["accuracy"] for row in history], label="training views, labels as given")
    held = [(row["epoch"], row["held_out_accuracy"]) for row in history if row.get("held_out_accuracy") is not None]
    if held:
        right.plot(*zip(*held, strict=True), label="held-out images, labels as given")
    if any(row["agreement"] for row in history):
        right.plot(epochs, [row["agreement"] for row in history], "--", label="agreement with the teacher")
    right.set(xlabel="epoch", ylabel="%", ylim=(0, 100))
    right.legend(fontsize=8)
    return png(figure)


def reliability_diagram(runs: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Accuracy against confidence, one line for each model; the diagonal is perfect calibration."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name, bins in runs.items():
        axes.plot([b["confidence"] for b in bins], [b["accuracy"] for b in bins], "o-", markersize=3, label=name)
    axes.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    axes.legend(fontsize=8)
    return png(figure)


def difficulty(distance: ArrayLike, reference: ArrayLike, temperature: ArrayLike | None) -> str:
    """Histogram of the distance, and the temperature that each distance gets."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    left.hist(np.asarray(distance), bins=50)
    left.set(xlabel="distance of teacher and probe", ylabel="images", yscale="log")
    quantiles = np.asarray(reference)
    level = np.linspace(0, 1, quantiles.size)
    if temperature is None:
        right.plot(quantiles, level)
        right.set(xlabel="distance", ylabel="level")
    else:
        t = np.asarray(temperature)
        right.plot(quantiles, np.interp(level, np.linspace(0, 1, t.size), t))
        right.set(xlabel="distance", ylabel="temperature")
    positive = quantiles[quantiles > 0]
    if positive.size > 1 and positive[-1] > 20 * np.median(positive):
        right.set_xscale("log")
    return png(figure)


def accuracy_by_level(runs: Mapping[str, Sequence[Mapping[str, float]]], ylabel: str = "test accuracy, %") -> str:
    """One line for each model over the tenths of the difficulty level."""
    figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
    for name, rows in runs.items():
        axes.plot([r["decile"] for r in rows], [r["accuracy"] for r in rows], "o-", markersize=3, label=name)
    axes.set(xlabel="tenth of the difficulty level, easy to hard", ylabel=ylabel, ylim=(0, 102))
    axes.legend(fontsize=8)
    return png(figure)


def by_level_over_epochs(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the method did to each tenth of the difficulty level, first and last epoch."""
    figure, grid = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    epochs = sorted({row["epoch"] for row in rows})
    shown = (("temperature", "mean temperature"), ("gradient_weight", "gradient weight"), ("agreement", "agreement, %"))
    for axes, (name, label) in zip(grid, shown, strict=True):
        for epoch in dict.fromkeys((epochs[0], epochs[-1])):
            part = [row for row in rows if row["epoch"] == epoch]
            axes.plot([r["decile"] for r in part], [r[name] for r in part], "o-", markersize=3, label=f"epoch {epoch}")
        axes.set(xlabel="tenth of the level", ylabel=label)
    grid[0].legend(fontsize=8)
    return png(figure)


def gallery(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 8) -> str:
    """Images ``[H, W]`` or ``[H, W, 3]`` in [0, 1] with a caption each."""
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(11, 1.75 * rows), layout="constrained", squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, image, caption in zip(grid.flat, images, captions, strict=False):
        axes.imshow(image, cmap="gray_r" if image.ndim == 2 else None, vmin=0, vmax=1)
        # A dollar sign in a class name is not mathematics.
        axes.set_title(caption.replace("$", r"\$"), fontsize=6.5)
    return png(figure)
