"""The quickstart's report: one self-contained HTML file with its pictures inside."""

from __future__ import annotations

import base64
import io
from typing import Any

import jinja2
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from dlkd.data import ImageArrays
from dlkd.quickstart.summary import sentences, spread

_PAGE = jinja2.Environment(autoescape=True).from_string(
    """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>dlkd quickstart</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;
padding:0 1rem}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:left;border-bottom:1px solid #8886}
img{max-width:100%;background:#fff}</style>
<h1>dlkd quickstart</h1>
<p>Digits, {{ (100 * noise) | round(1) }} % wrong training labels, test labels clean, last epoch, mean ± sd over
seeds. Settings: {{ settings }}.</p>
<table><tr><th>teacher<th>method<th>test accuracy %<th>calibration error %</tr>
{% for row in table %}<tr><td>{{ row.teacher }}<td>{{ row.method }}<td>{{ spread(row.mean, row.sd) }}
<td>{{ "%.1f" | format(row.ece) }}</tr>{% endfor %}</table>
<ul>{% for line in sentences %}<li>{{ line }}</li>{% endfor %}</ul>
{% for title, picture in pictures %}<h2>{{ title }}</h2>
<img alt="{{ title }}" src="data:image/png;base64,{{ picture }}">{% endfor %}</html>
"""
)


def render(results: dict[str, Any], difficulty: dict[str, Any], given: ImageArrays) -> str:
    """Fill the page; nothing in it refers to another file."""
    pictures = [("Test accuracy", _bars(results["summary"]["table"]))]
    for teacher, scores in difficulty.items():
        pictures.append((f"Difficulty, {teacher} teacher", _curves(scores, given.labels.numpy())))
        pictures.append((f"Easiest and hardest images, {teacher} teacher", _gallery(scores, given)))
    return _PAGE.render(
        noise=results["settings"]["noise"],
        settings=results["settings"],
        table=results["summary"]["table"],
        sentences=sentences(results["summary"]),
        pictures=pictures,
        spread=spread,
    )


def _bars(table: list[dict[str, Any]]) -> str:
    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    names = [f"{row['method']}\n({row['teacher']})" for row in table]
    axes.bar(names, [row["mean"] for row in table], yerr=[row["sd"] or 0 for row in table], capsize=4)
    axes.set_ylabel("%")
    axes.tick_params(axis="x", labelsize=8)
    return _png(figure)


def _curves(scores: dict[str, Any], given_labels: np.ndarray) -> str:
    figure, (histogram, curve, by_level) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    distance, level = np.array(scores["distance"]), np.array(scores["level"])
    histogram.hist(distance, bins=40)
    histogram.set(xlabel="distance of teacher and probe", ylabel="images", yscale="log")
    order = np.argsort(distance)
    curve.plot(distance[order], np.array(scores["temperature"])[order])
    curve.set(xlabel="distance", ylabel="temperature")
    _by_level(by_level, level, np.array(scores["teacher_label"]) == given_labels, np.array(scores["wrong"]))
    return _png(figure)


def _by_level(axes: Axes, level: np.ndarray, agrees: np.ndarray, wrong: np.ndarray) -> None:
    fifth = np.minimum((level * 5).astype(int), 4)
    used = [k for k in range(5) if (fifth == k).any()]
    axes.plot(used, [100 * agrees[fifth == k].mean() for k in used], "o-", label="teacher = given label")
    axes.plot(used, [100 * wrong[fifth == k].mean() for k in used], "s--", label="given label wrong")
    axes.set(xlabel="fifth of the difficulty level", ylabel="% of images", ylim=(0, 100))
    axes.legend(fontsize=7)


def _gallery(scores: dict[str, Any], given: ImageArrays, each: int = 8) -> str:
    order = np.argsort(scores["distance"], kind="stable")
    figure, grid = plt.subplots(2, each, figsize=(11, 3.4), layout="constrained")
    for axes, i in zip(grid.flat, [*order[:each], *order[-each:]], strict=True):
        axes.imshow(given.images[int(i), 0].numpy(), cmap="gray_r")
        labels = f"given {given.labels[int(i)]}, teacher {scores['teacher_label'][i]}"
        axes.set_title(f"{labels}\nprobe {scores['probe_label'][i]}, d {scores['distance'][i]:.3f}", fontsize=7)
        axes.axis("off")
    return _png(figure)


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode()
