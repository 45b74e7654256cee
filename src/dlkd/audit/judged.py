"""The training images with what somebody who has not seen them says of each, if there is such a one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dlkd.audit.answers import Answers
from dlkd.data import DataOptions, DataSet, Samples, load_data
from dlkd.errors import UserError

SEEN = ("no", "unknown", "probably", "yes")
"""Was the teacher trained on this image? In the order of the harm."""


@dataclass(frozen=True)
class Judged:
    """All training images of a data set."""

    samples: Samples
    """``[N]`` with the labels as given, in the order of their numbers."""
    answers: Answers
    """Of the same images, in the same order."""
    seen: npt.NDArray[np.str_]
    """``[N]`` out of :data:`SEEN`."""
    folds: npt.NDArray[np.int64]
    """``[N]``: which part an image is in; −1 where there are none."""
    oracle: bool
    """Was the teacher trained on the true labels, where those given are known to be others?"""
    remarks: tuple[str, ...]

    @property
    def warning(self) -> str:
        """Why the scores are worth little or nothing; empty where they are worth what they say."""
        if self.oracle:
            return (
                "The teacher learnt from the clean labels, not from the given ones: it is an oracle, and its scores "
                "say nothing about how well wrong labels are found without one."
            )
        counts = {name: int((self.seen == name).sum()) for name in SEEN}
        # Of parts, who judges has not seen its own, unless it had been trained before they were cut: --heads_only.
        heads = bool((self.folds >= 0).all())
        who, other = (
            ("network", "leave out --heads_only and --model.weights") if heads else ("teacher", "give --folds 5")
        )
        if counts["yes"]:
            return (
                f"The {who} was trained on {counts['yes']} of these {len(self.samples)} images and repeats the "
                "labels that it learnt: their scores are worthless as evidence about wrong labels. Give a "
                f"{who} that has not seen them, or {other}."
            )
        if counts["probably"]:
            return (
                f"The {who} is much surer of these images than of the test images: it was probably trained on them, "
                "and its scores are then worthless as evidence about wrong labels. Say --teacher.seen none if it was "
                f"not, or {other}."
            )
        if counts["unknown"]:
            return (
                f"Nobody knows whether the {who} was trained on these images; if it was, its scores are worthless as "
                f"evidence about wrong labels. Say --teacher.seen, or {other}."
            )
        return ""


def everything(options: DataOptions) -> DataSet:
    """The data set with no image held out, so that ``train`` are all that are audited.

    Raises:
        UserError: see :func:`dlkd.data.load_data`; no labels.
    """
    data = load_data(replace(options, held_out=0.0, folds=None, fold=None, train_per_class=None))
    if data.train.unlabelled:
        raise UserError(
            f"expected a label for every image that is audited, but {data.train.unlabelled} of {len(data.train)} have "
            "none"
        )
    return data
