"""The quickstart's report: one self-contained HTML file with its pictures inside."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from dlkd.data import ArrayPixels, Samples
from dlkd.difficulty import DifficultyTemperature
from dlkd.evaluate.figures import bin_of
from dlkd.evaluate.words import mean_and_sd
from dlkd.quickstart.summary import sentences
from dlkd.report import Page, Picture, pictures
from dlkd.report.by_image import accuracy_by_tenth


def render(results: dict[str, Any], scores: dict[str, dict[str, np.ndarray]], given: Samples) -> str:
    """Fill the page.

    Args:
        results: the content of ``results.json``.
        scores: for each teacher, the columns of ``dlkd difficulty`` for the training images.
        given: the training images with their labels as given.
    """
    table = results["summary"]["table"]
    names = [r["method"] if r["teacher"] == "none" else f"{r['method']}, {r['teacher']}" for r in table]
    means = pictures.means(names, [row["mean"] for row in table], [row["sd"] or 0.0 for row in table])
    shown = [
        Picture("Test accuracy", means, "Mean ± one standard deviation over seeds."),
        Picture("Calibration", pictures.reliability_diagram(_reliability(results["rows"])), "All seeds together."),
    ]
    for teacher, columns in scores.items():
        shown += _of_teacher(teacher, columns, results["rows"], given)
    settings = results["settings"]
    return Page(
        title="dlkd quickstart",
        lead=f"Digits, {100 * settings['noise']:.0f} % wrong training labels, test labels clean, last epoch, "
        "mean ± sd over seeds.",
        columns=["teacher", "method", "test accuracy %", "calibration error %"],
        rows=[[r["teacher"], r["method"], mean_and_sd(r), f"{r['ece']:.1f}"] for r in table],
        sentences=sentences(results["summary"]),
        pictures=shown,
        details={"settings": json.dumps(settings, indent=2)},
    ).render()


def _of_teacher(
    teacher: str, columns: dict[str, np.ndarray], rows: list[dict[str, Any]], given: Samples
) -> list[Picture]:
    distance = columns["distance"]
    order = np.argsort(distance, kind="stable")
    temperature = DifficultyTemperature()(torch.linspace(0, 1, 101)).numpy()
    by_level = {
        name: _pooled([r["by_level"] for r in rows if (r["method"], r["teacher"]) == (name, teacher)])
        for name in ("KD", "DLKD")
    }
    chosen = [*order[:8], *order[-8:]]
    captions = [
        f"given {columns['given_label'][i]}, teacher {columns['teacher_label'][i]}\n"
        f"probe {columns['probe_label'][i]}, d {distance[i]:.2g}"
        for i in chosen
    ]
    assert isinstance(given.pixels, ArrayPixels)
    images = [given.pixels.array[int(i), 0].numpy() / 255 for i in chosen]
    reference = np.quantile(distance, np.linspace(0, 1, 257))
    return [
        Picture(
            f"Difficulty, {teacher} teacher",
            pictures.difficulty(distance, reference, temperature),
            "The training images, without augmentation, and the temperature of DLKD by rank among them.",
        ),
        Picture(
            f"Labels by difficulty, {teacher} teacher",
            pictures.accuracy_by_level(_labels(columns, given), "%"),
            "The training images; the teacher has seen all of them.",
        ),
        Picture(
            f"Students by difficulty, {teacher} teacher",
            pictures.accuracy_by_level(by_level),
            "Test images, all seeds together.",
        ),
        Picture(
            f"Easiest and hardest images, {teacher} teacher",
            pictures.gallery(images, captions),
            "First row: the smallest distances d between teacher and probe; second row: the largest.",
        ),
    ]


def _labels(columns: dict[str, np.ndarray], given: Samples) -> dict[str, list[dict[str, float]]]:
    """Agreement of teacher and given label, and share of wrong labels, in each tenth of the level."""
    assert given.wrong is not None
    agrees = columns["teacher_label"] == columns["given_label"]
    return {
        "teacher = given label": accuracy_by_tenth(agrees, columns["level"]),
        "given label wrong": accuracy_by_tenth(given.wrong, columns["level"]),
    }


def _pooled(runs: list[list[dict[str, float]]]) -> list[dict[str, float]]:
    """Tenths of several runs together, each weighted by its samples."""
    pooled = []
    for decile in sorted({row["decile"] for run in runs for row in run}):
        parts = [row for run in runs for row in run if row["decile"] == decile]
        total = sum(p["samples"] for p in parts)
        pooled.append({"decile": decile, "accuracy": sum(p["samples"] * p["accuracy"] for p in parts) / total})
    return pooled


def _reliability(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, float]]]:
    """Bins of all seeds of a method together."""
    groups: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if row["method"] != "teacher":
            name = row["method"] if row["teacher"] == "none" else f"{row['method']}, {row['teacher']} teacher"
            groups.setdefault(name, []).extend(row["reliability"])
    return {name: _merged(bins) for name, bins in groups.items()}


def _merged(bins: list[dict[str, float]], count: int = 15) -> list[dict[str, float]]:
    which = bin_of(torch.tensor([b["confidence"] for b in bins], dtype=torch.float64), count).tolist()
    merged = []
    for k in sorted(set(which)):
        parts = [b for b, own in zip(bins, which, strict=True) if own == k]
        total = sum(p["size"] for p in parts)
        merged.append({f: sum(p["size"] * p[f] for p in parts) / total for f in ("confidence", "accuracy")})
    return merged
