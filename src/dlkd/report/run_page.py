"""The report of one training run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from dlkd.evaluate.figures import NAMES
from dlkd.report import pictures
from dlkd.report.page import Page, chart
from dlkd.report.words import measure_of

PARTS = {"train": "training", "held_out": "held out"}
_CALIBRATION = " images. Above the diagonal the student is right more often than it is sure, below it less often."


def run_page(
    title: str,
    results: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    by_level: Sequence[Mapping[str, Any]],
    difficulty: Mapping[str, Any] | None,
) -> str:
    """HTML of a run.

    Args:
        title: method and student.
        results: the content of ``results.json``.
        history: one row an epoch, as in ``metrics.csv``.
        by_level: rows of ``metrics_by_level.csv``.
        difficulty: distances of the test images, the reference quantiles and the temperature curve, if known.
    """
    measure = measure_of(results.get("method", {}))
    scored = "test" if "test" in results else "held_out"
    words, whose = ("test", "Test") if scored == "test" else ("held out", "Held-out")
    columns = {"student, test": results["test"]} if scored == "test" else {}
    if "held_out" in results:
        columns["student, held out (labels as given)"] = results["held_out"]
    if "held_out_clean" in results:
        columns["student, held out (true labels)"] = results["held_out_clean"]
    if "teacher" in results:
        columns[f"teacher, {words}"] = results["teacher"][scored]
    rows = [[NAMES[k], *(f"{c[k]:.2f}" if k in c else "" for c in columns.values())] for k in results[scored]]
    shown = [chart(pictures.curves(history), "Training")]
    if by_level:
        words = (
            "Gradient weight: the gradient of an average sample of this tenth, as a multiple of the overall average."
        )
        shown.append(chart(pictures.by_level_over_epochs(by_level), "By difficulty, while training", words))
    if "by_level" in results:
        teacher = [{"decile": r["decile"], "accuracy": r["teacher_accuracy"]} for r in results["by_level"]]
        runs = {"student": results["by_level"], "teacher": teacher}
        words = f"{whose} images in tenths of the difficulty level: {measure.level_of_image}."
        words += " Tenths without images are left out."
        shown.append(chart(pictures.accuracy_by_level(runs), "Accuracy by difficulty", words))
    drawn = pictures.reliability_diagram({"student": results["reliability"]})
    shown.append(chart(drawn, "Calibration", whose + _CALIBRATION))
    if "memorisation" in results:
        bars = {f"{PARTS[part]}, {of['images']}": of for part, of in results["memorisation"].items()}
        words = "What the student says of images whose given label is wrong. On training images naming it is memory."
        shown.append(chart(pictures.memorisation(bars), "Memorised wrong labels", words))
    if difficulty is not None:
        drawn = pictures.difficulty(
            difficulty["distance"], difficulty["reference"], difficulty["temperature"], of=measure.value
        )
        words = f"Left: the {whose.lower()} images. Right: what each value means, {measure.level_of_value}."
        shown.append(chart(drawn, "Difficulty", words))
    return Page(
        title=title,
        lead=f"{_epochs(results['epochs'])}, seed {results['seed']}, {results['weights']}; "
        + ("test images read once, at the end." if scored == "test" else "test images not read."),
        columns=["", *columns],
        rows=rows,
        sentences=[*_sentences(results), *results["remarks"]],
        pictures=shown,
        details={"results.json": json.dumps(results, indent=2)},
    ).render()


def _epochs(count: int) -> str:
    return f"{count} epoch" + ("" if count == 1 else "s")


def _sentences(results: Mapping[str, Any]) -> list[str]:
    alone = [results["baseline"]["verdict"]] if "baseline" in results else []
    return [*alone, *_about_teacher(results), *_about_memory(results)]


def _about_memory(results: Mapping[str, Any]) -> list[str]:
    if "train" not in (memory := results.get("memorisation", {})):
        return []
    of = memory["train"]
    return [
        f"Of {of['images']} mislabelled training images the student gives {of['wrong_label']:.1f} % their wrong label "
        f"and {of['true_label']:.1f} % the true one."
    ]


def _about_teacher(results: Mapping[str, Any]) -> list[str]:
    if "teacher" not in results:
        return []
    seen = {
        "train": "has seen all training images" + (", held-out ones included" if "held_out" in results else ""),
        "kept": "has seen the training images" + (", but not the held-out ones" if "held_out" in results else ""),
        "none": "has seen none of the training images",
        "unknown": "may have seen the training images: nobody said",
    }[results["teacher"]["seen"]]
    whose = "test" if "test" in results else "held-out"
    lines = [
        f"The teacher {seen}.",
        f"Student and teacher agree on {results['agreement']:.1f} % of the {whose} images.",
    ]
    if results.get("noise"):
        known = {
            "clean": "was trained on the true labels: it is an oracle, and proves nothing about wrong labels",
            "given": "was trained on the same noisy labels",
            "unknown": "may have been trained on the true labels, nobody said: it would be an oracle",
        }[results["teacher"]["labels"]]
        lines.append(f"The teacher {known}.")
    return lines
