"""What follows from the answers image by image: pairs of classes, classes, confidences, tenths of the difficulty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from dlkd.evaluate.figures import bin_of, tenth_of
from dlkd.report.runs import Floats, Ints

Bools = npt.NDArray[np.bool_]


class Pair(NamedTuple):
    """One class taken for another."""

    true: int
    predicted: int
    times: int
    out_of: int
    """Images of the true class."""


def worst_pairs(labels: Ints, predicted: Ints, most: int) -> list[Pair]:
    """The most frequent mistakes, at most ``most`` of them; of equally frequent ones the lower class first."""
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [
        Pair(int(true), int(said), int(times), int((labels == true).sum()))
        for (true, said), times in zip(pairs[order], counts[order], strict=True)
    ]


def accuracy_by_class(labels: Ints, right: Bools, classes: int) -> Floats:
    """``[C]`` in per cent; NaN for a class without images."""
    sizes = np.bincount(labels, minlength=classes)
    hits = np.bincount(labels, weights=right, minlength=classes)
    return np.where(sizes > 0, 100 * hits / np.maximum(sizes, 1), np.nan)


def reliability_bins(right: Bools, confidence: Floats, bins: int = 15) -> list[dict[str, float]]:
    """Mean confidence and accuracy in [0, 1] of each bin of equal width that is not empty; see
    :func:`dlkd.evaluate.reliability`, which has the logits."""
    which = bin_of(torch.from_numpy(confidence), bins).numpy()
    return [
        {"confidence": float(confidence[which == b].mean()), "accuracy": float(right[which == b].mean())}
        for b in np.unique(which)
    ]


def accuracy_by_tenth(right: Bools, level: Floats) -> list[dict[str, float]]:
    """Accuracy in per cent in each tenth of the level ``[N]`` that is not empty."""
    tenth = tenth_of(torch.from_numpy(level)).numpy()
    return [{"decile": int(k), "accuracy": float(100 * right[tenth == k].mean())} for k in np.unique(tenth)]


class Disagreement(NamedTuple):
    """Positions of images on which two runs give different answers, those of which the first is surest first."""

    first_right: Ints
    second_right: Ints
    none_right: Ints


def disagreement(labels: Ints, first: Ints, second: Ints, confidence: Floats) -> Disagreement:
    """Args:
    labels, first, second: ``[N]``, the true class and what two runs say.
    confidence: ``[N]`` of the first.
    """
    order = np.argsort(-confidence, kind="stable")
    order = order[first[order] != second[order]]
    a, b = (said[order] == labels[order] for said in (first, second))
    return Disagreement(order[a], order[b], order[~a & ~b])
