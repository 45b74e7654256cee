"""Figures of a difficulty score, with intervals over images; pure functions of numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.float32]
"""Whole numbers; of this type they and their sums are exact, and quick."""
FOLDS = 10


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def resamples(images: int, count: int, seed: int, groups: npt.NDArray[np.int64] | None = None) -> Counts:
    """How often each image is in each bootstrap sample, ``[images, count]``.

    Args:
        groups: ``[images]`` numbers of what is drawn together, as both images of a mixed pair; each alone by default.
    """
    random = np.random.default_rng(seed)
    units = images if groups is None else int(groups.max()) + 1
    drawn = np.stack([np.bincount(random.integers(units, size=units), minlength=units) for _ in range(count)], axis=1)
    return (drawn if groups is None else drawn[groups]).astype(np.float32)


def auroc(score: Floats, positive: Bools, weights: Counts | None = None) -> Floats:
    """P(score of a positive > score of a negative) + ½·P(equal), one for each column of weights, ``[R]``.

    Args:
        score: ``[N]``.
        positive: ``[N]``.
        weights: ``[N, R]``: how often each image is there; once by default.
    """
    weights = np.ones((len(score), 1), np.float32) if weights is None else weights
    order = np.argsort(score, kind="stable")
    ordered, positives = score[order], positive[order]
    times = weights[order]
    below = np.cumsum(times * ~positives[:, None], axis=0)
    below = np.concatenate([np.zeros_like(below[:1]), below])
    first, last = (np.searchsorted(ordered, ordered[positives], side) for side in ("left", "right"))
    won = times[positives] * (below[first] + below[last])
    pairs = times[positives].sum(axis=0, dtype=np.float64) * below[-1]
    return np.asarray(won.sum(axis=0, dtype=np.float64) / 2 / pairs)


def aurc(score: Floats, error: Bools) -> float:
    """1/N·Σ_i r_i in per cent, r_i the share of errors among the i images of lowest score.

    That of :func:`dlkd.evaluate.aurc` for any score: each error is replaced by the mean of those that it ties with.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(score)])
    tied = np.repeat(np.add.reduceat(error[order].astype(np.float64), starts) / sizes, sizes)
    return float(100 * np.mean(np.cumsum(tied) / np.arange(1, len(score) + 1)))


def interval(value: float, samples: Floats) -> Interval:
    """The percentile interval of bootstrap ``samples`` around ``value``."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(value, float(low), float(high))


class Ruler:
    """AUROCs of many scores for one target, each held against one reference on the same bootstrap samples."""

    def __init__(self, positive: Bools, weights: Counts, reference: Floats) -> None:
        self.positive, self.weights = positive, weights
        self.reference = self._both(reference)

    def _both(self, score: Floats) -> tuple[float, Floats]:
        return float(auroc(score, self.positive)[0]), auroc(score, self.positive, self.weights)

    def __call__(self, score: Floats) -> tuple[Interval, Interval]:
        """Its AUROC, and what it is above the reference's."""
        value, samples = self._both(score)
        reference, paired = self.reference
        return interval(value, samples), interval(value - reference, samples - paired)

    def above_mean(self, score: Floats, others: Sequence[Floats]) -> Interval:
        """Its AUROC less the mean of the others' AUROCs."""
        value, samples = self._both(score)
        values, theirs = zip(*map(self._both, others), strict=True)
        return interval(value - float(np.mean(values)), samples - np.mean(theirs, axis=0))


def aurc_difference(score: Floats, reference: Floats, error: Bools, weights: Counts) -> Interval:
    """AURC of a score less that of the reference in points, below 0 better, paired over images."""
    samples = []
    for times in weights.T.astype(np.int64):
        drawn = np.repeat(np.arange(len(error)), times)
        samples.append(aurc(score[drawn], error[drawn]) - aurc(reference[drawn], error[drawn]))
    return interval(aurc(score, error) - aurc(reference, error), np.array(samples))


def out_of_fold(scores: Sequence[Floats], positive: Bools, seed: int = 0) -> Floats:
    """P(positive) of each image by a regression that has not seen it, ``[N]``.

    Logistic regression on the ranks of the scores, their squares and products, in ten folds. Ranks, since only order
    is asked for; of all images, since no label is needed for them.
    """
    ranks = np.stack([rankdata(score) / len(score) for score in scores], axis=1)
    # Squares of ranks are nearly their ranks: a first-order solver would not arrive.
    regression = LogisticRegression(C=10.0, solver="newton-cholesky")
    model = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), regression)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, ranks, positive, cv=folds, method="predict_proba")[:, 1])


def beyond(
    base: Sequence[Floats], more: Sequence[Floats], positive: Bools, weights: Counts
) -> tuple[Interval, Interval]:
    """AUROC of what ``base`` and ``more`` say together, and what it is above that of ``base`` alone.

    Both are predictions out of fold; the intervals are over images, the regressions held fixed.
    """
    alone = out_of_fold(base, positive)
    return Ruler(positive, weights, alone)(out_of_fold([*base, *more], positive))


class Chosen(NamedTuple):
    """A score that was chosen on one half of the images, on the other half."""

    name: str
    auroc: float
    above: dict[str, Interval]
    """Reference → what it is above that one's."""


def chosen_by_halves(
    scores: Mapping[str, Floats],
    references: Mapping[str, Floats],
    positive: Bools,
    draw: Callable[[int], Counts],
    seed: int,
) -> list[Chosen]:
    """The best of ``scores`` by the AUROC on one half of the images, judged on the other; both ways round.

    Args:
        draw: bootstrap weights for so many images.
    """
    order = np.random.default_rng(seed).permutation(len(positive))
    halves = np.array_split(order, 2)
    found = []
    for here, there in (halves, halves[::-1]):
        best = max(scores, key=lambda name: float(auroc(scores[name][here], positive[here])[0]))
        weights = draw(len(there))
        above = {
            name: Ruler(positive[there], weights, score[there])(scores[best][there])[1]
            for name, score in references.items()
        }
        found.append(Chosen(best, float(auroc(scores[best][there], positive[there])[0]), above))
    return found
