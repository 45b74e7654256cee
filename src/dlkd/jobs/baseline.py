"""The student trained alone, beside the distilled one: was the teacher worth its while?"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dlkd.arrays import read_arrays
from dlkd.errors import UserError
from dlkd.jobs.card import PREDICTIONS
from dlkd.methods import LossOptions
from dlkd.run_folder import RESULTS
from dlkd.train.auto import rate_of
from dlkd.train.launch import Launch
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session
from dlkd.train.teacher_options import FeatureOptions, ProbeOptions, StorageOptions, TeacherOptions

WORDS = {"test": "test", "held_out": "held-out"}
"""What images are called that figures are of."""


def baseline_folder(out: Path) -> Path:
    """Where the run of the student alone lies: ``OUT-baseline``."""
    whole = out if out.name not in ("", "..") else out.resolve()
    return whole.with_name(f"{whole.name}-baseline")


def baseline_options(session: Session, options: DistillOptions) -> DistillOptions:
    """The same run without a teacher: images of the same size, views, order, epochs and seed; cross-entropy alone."""
    settled = session.options
    assert isinstance(settled, DistillOptions)
    by_itself = replace(settled, optim=replace(settled.optim, lr="auto"))
    # What was chosen for the weights of the method is not chosen for cross-entropy.
    optim = by_itself.optim if rate_of(by_itself) == settled.optim.lr else settled.optim
    return replace(
        settled,
        out=baseline_folder(options.out),
        overwrite=options.overwrite,
        with_baseline=False,
        method="ce",
        teacher=TeacherOptions(),
        probe=ProbeOptions(),
        loss=LossOptions(),
        optim=optim,
        feature=FeatureOptions(),
        store=None,
        storage=StorageOptions(),
        data=replace(settled.data, image_size=session.size) if session.opens_files else settled.data,
    )


def check_baseline(options: DistillOptions) -> None:
    """Refuse a baseline that cannot be had.

    Raises:
        UserError: several processes, or a method that has no teacher itself.
    """
    if Launch.found().world > 1:
        raise UserError(
            "expected one process with --with-baseline; train the student alone by a command of its own: dlkd distill "
            f"--method ce --out {baseline_folder(options.out)}, with the other options as here"
        )
    if options.method == "ce":
        raise UserError("expected a method with a teacher with --with-baseline, but got ce, which is the baseline")


def against_baseline(session: Session, answers: dict[str, Any]) -> dict[str, Any]:
    """Student and baseline on the same images, paired: accuracy of the baseline in %, difference in points, and its
    standard error 100·sd(d)/√n with d_i ∈ {−1, 0, 1}, which knows of other images but not of other seeds.

    Args:
        session: of the student.
        answers: what :func:`dlkd.jobs.results.predictions` gave of it.

    Raises:
        UserError: the folder of the baseline is damaged, or it was scored on other images.
    """
    folder, part = baseline_folder(session.folder), session.options.score_on
    try:
        other = read_arrays(folder / PREDICTIONS)
        right = [np.equal(of[f"{part}_predicted"], of[f"{part}_labels"]) for of in (answers, other)]
        same = np.array_equal(answers[f"{part}_ids"], other[f"{part}_ids"])
        # An image may have been replaced by another of the same number.
        same &= json.loads((folder / RESULTS).read_text())["images"][part] == session.scored.digest()
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(
            f"{folder / PREDICTIONS} is missing or damaged; delete {folder} and go on with --resume"
        ) from error
    if not same:
        raise UserError(f"{folder} is of other images; delete it and go on with --resume")
    difference = 100 * (right[0].astype(np.float64) - right[1])
    n = len(difference)
    found = {
        "folder": folder.name,
        "accuracy": float(100 * right[1].mean()),
        "difference": float(difference.mean()),
        "standard_error": float(difference.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        "images": n,
    }
    return {**found, "verdict": verdict(found, WORDS[part])}


def verdict(baseline: dict[str, Any], images: str) -> str:
    """One honest sentence: better, worse, or no difference beyond two standard errors.

    Args:
        baseline: as :func:`against_baseline` found it.
        images: what they are called, as ``test``.
    """
    gain, error = baseline["difference"], baseline["standard_error"]
    start = f"The same student trained alone is right on {baseline['accuracy']:.2f} % of the {images} images: "
    margin = f"{gain:+.2f} points by the teacher, standard error {error:.2f} over {baseline['images']} images"
    if not abs(gain) > 2 * error:  # nor where nobody knows the error
        return f"{start}{margin}: no difference that other images would not undo."
    return f"{start}{margin}{'' if gain > 0 else ': distillation did not help here'}. One seed; others differ too."
