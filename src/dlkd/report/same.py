"""May runs stand side by side? Only figures of the same images can be compared."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from dlkd.errors import UserError
from dlkd.report.runs import PARTS, Part, Run, readable

WORDS: dict[str, str] = {"test": "test", "held_out": "held-out"}


def common_part(runs: Sequence[Run]) -> Part:
    """The images that all runs have figures of: test images, else held-out ones.

    Raises:
        UserError: there are none; other data, other classes, or other images.
    """
    # All pairs: an older run in front may not know enough to tell two newer ones apart.
    for one, other in itertools.combinations(runs, 2):
        _check_data(one, other)
    for part in PARTS:
        if all(part in run.figures for run in runs):
            for one, other in itertools.combinations(runs, 2):
                _check_images(one, other, part)
            return part
    first = runs[0]
    other = next(run for run in runs if not run.figures.keys() & first.figures.keys() & {*PARTS})
    raise UserError(
        f"expected figures of the same images, but {first.folder} was scored on {WORDS[first.scored_on]} images and "
        f"{other.folder} on {WORDS[other.scored_on]} ones; give runs with the same --score_on"
    )


def _check_data(first: Run, run: Run) -> None:
    mine, theirs = (readable(str(each.data.get("data"))) for each in (first, run))
    if mine != theirs:
        raise UserError(
            f"expected runs on the same data, but {first.folder} is of {mine} and {run.folder} of {theirs}; give runs "
            "of one data set"
        )
    if first.class_names == run.class_names:
        return
    counts = len(first.class_names), len(run.class_names)
    found = f"{counts[0]} in {first.folder} and {counts[1]} in {run.folder}"
    if counts[0] == counts[1]:
        a, b = next((a, b) for a, b in zip(first.class_names, run.class_names, strict=True) if a != b)
        found = f"{a!r:.60} in {first.folder} and {b!r:.60} in its place in {run.folder}"
    raise UserError(f"expected runs of the same classes, but found {found}; give runs of one data set")


def _check_images(first: Run, run: Run, part: Part) -> None:
    if part in first.images and part in run.images:
        same = first.images[part] == run.images[part]
    else:
        same = first.data.get(part) == run.data.get(part)
    if same and part in first.answers and part in run.answers:
        mine, theirs = first.answers[part], run.answers[part]
        same = np.array_equal(mine.ids, theirs.ids) and np.array_equal(mine.labels, theirs.labels)
    if not same:
        raise UserError(
            f"expected runs that were scored on the same {WORDS[part]} images, but those of {first.folder} and "
            f"{run.folder} are not; give runs with the same --data options (root, seed, shares)"
        )


def remarks(runs: Sequence[Run], baseline: Run, part: Part) -> Iterator[str]:
    """What else is not the same, and what a run does not say, in sentences."""
    for run in runs:
        if run is not baseline:
            yield from _training(run, baseline)
    whose = f"which {WORDS[part]} images"
    if len(runs) > 1:
        for run in (r for r in runs if part not in r.images and part not in r.answers):
            yield f"{run.name} is older and does not say {whose} it was scored on; only their number was compared."
    for run in (r for r in runs if part not in r.answers):
        yield (
            f"{run.name} keeps no answers image by image (predictions.npz): it is left out where those are needed. A "
            "new run keeps them."
        )


def _training(run: Run, baseline: Run) -> Iterator[str]:
    mine, theirs = run.data, baseline.data
    if mine.get("images") != theirs.get("images"):
        yield (
            f"{run.name} was trained on other images than {baseline.name}: {_count(mine)} instead of {_count(theirs)}."
        )
    elif mine.get("labels") != theirs.get("labels"):
        yield f"{run.name} learnt from other labels than {baseline.name}{_other_labels(run, baseline)}."


def _other_labels(run: Run, baseline: Run) -> str:
    """What is other of the labels of two runs, as the end of a sentence; empty where nobody knows."""
    mine, theirs = (_noise(each.data) for each in (run, baseline))
    if mine == theirs:
        one, other = (_of_labels(each) for each in (run, baseline))
        told = [name for name in _WORDS if one.get(name) != other.get(name)]
        mine, theirs = (", ".join(_word(name, of.get(name)) for name in told) for of in (one, other))
    # Files of one name may differ in what is in them.
    return f": {mine} instead of {theirs}" if mine != theirs else ""


_WORDS = {
    "cleaned": ("not cleaned", "cleaned by {}"),
    "noise_file": ("no file of noise", "noise of {}"),
    "noise_set": ("no set of labels", "the labels {}"),
    "labelled": ("all labels", "a share of {} of the labels"),
    "seed": ("no seed", "labels of --data.seed {}"),
}
"""By the name of an option that decides which labels a run has: without a value, and with one."""


def _of_labels(run: Run) -> dict[str, Any]:
    """The options of the labels, of a run whose card has them."""
    options = json.loads(run.settings or "{}").get("data")
    return options if isinstance(options, dict) else {}


def _word(name: str, value: object) -> str:
    without, given = _WORDS[name]
    return without if value is None else given.format(readable(PurePath(str(value)).name))


def _count(data: Any) -> str:
    return f"{data['samples']}" if isinstance(data.get("samples"), int) else "an unknown number"


def _noise(data: Any) -> str:
    rate = data.get("noise")
    if not isinstance(rate, int | float) or not rate:
        return "labels without added noise"
    return f"{100 * rate:.1f} % {readable(str(data.get('noise_kind')))} noise"
