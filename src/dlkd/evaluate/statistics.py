"""How sure a difference is: intervals over seeds and over images, tests, and accuracy by tenth of the difficulty."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

# scipy.stats would have the same two under nicer names, and add its second to every start.
from scipy.special import stdtr, stdtrit

Verdict = Literal["ahead", "behind", "no difference", "one seed"]
_TENTHS = 10


class Spread(NamedTuple):
    """Of one figure over seeds."""

    mean: float
    sd: float | None
    """None for one seed."""
    n: int


class Paired(NamedTuple):
    """Ours minus theirs, seed by seed, over the seeds that both have."""

    mean: float
    sd: float | None
    n: int
    low: float | None
    """Of the t-interval; as ``high``, ``p`` and ``sd``, None for one seed."""
    high: float | None
    p: float | None
    """Of the paired t-test, two-sided; see :func:`holm` where there are several."""
    verdict: Verdict


class Interval(NamedTuple):
    """A difference in points of accuracy."""

    mean: float
    low: float
    high: float


class Tenth(NamedTuple):
    """A tenth of the samples by difficulty."""

    samples: int
    accuracy: float | None
    """In per cent; None where there are fewer than ten samples and none is left for this tenth."""


def spread(values: Iterable[float]) -> Spread:
    """Mean, standard deviation with n − 1, and n. Both are rounded once, so equal values have a deviation of exactly 0.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    numbers = [float(v) for v in values]
    if not numbers:
        raise ValueError("expected at least one value, but got none")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected finite values, but got {numbers}")
    return Spread(mean(numbers), stdev(numbers) if len(numbers) > 1 else None, len(numbers))


def paired(ours: Mapping[int, float], theirs: Mapping[int, float], confidence: float = 0.95) -> Paired | None:
    """The difference of two methods over seeds: d̄ ± t_{n−1}·sd/√n.

    It covers what another set of seeds would have said on the same images, where the differences are about normal.
    What other images would have said is :func:`bootstrap_difference`.

    Args:
        ours: seed → figure, the larger the better.
        theirs: the same of the other method; seeds that only one has do not count.
        confidence: of the interval; the verdict is "ahead" or "behind" if it leaves 0 out, thus if p < 1 − confidence.

    Returns:
        None where the two share no seed. Equal differences at every seed have an interval without width, and p is 0, or
        1 if they are 0.

    Raises:
        ValueError: a figure that is not finite, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    centre, sd, n = spread(float(ours[seed]) - float(theirs[seed]) for seed in seeds)
    if sd is None:
        return Paired(centre, None, n, None, None, None, "one seed")
    half = _t(confidence, n) * sd / math.sqrt(n)
    if sd > 0:
        p = 2 * float(stdtr(n - 1, -abs(centre) / (sd / math.sqrt(n))))
    else:
        p = 0.0 if centre else 1.0
    return Paired(centre, sd, n, centre - half, centre + half, p, _verdict(centre - half, centre + half))


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given: of the i-th smallest of m, max_{k ≤ i} (m − k + 1)·p_(k),
    at most 1.

    Rejecting where it is below α keeps the chance of any false rejection below α, whatever the tests have to do with
    each other.

    Raises:
        ValueError: a value outside [0, 1].

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 1979.
    """
    if not all(0 <= value <= 1 for value in p):
        raise ValueError(f"expected p-values in [0, 1], but got {list(p)}")
    adjusted = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * float(p[index])))
        adjusted[index] = largest
    return adjusted


def bootstrap_difference(
    ours: ArrayLike, theirs: ArrayLike, *, draws: int = 10_000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Difference of accuracy in points, mean over seeds, with the percentile bootstrap over images.

    Images are drawn with replacement, each with the answers of all students of both methods; the students stay. So the
    interval covers *new images, the same trained students*: whether these students differ at all on such images. It
    knows nothing of what another seed would have trained. The t-interval of :func:`paired` covers the other half,
    *new seeds, the same images*, and says whether the method, not these students, is better. A claim needs both.

    An image says one of at most 2·S + 1 differences, so a draw of N images is a multinomial draw of how often each
    occurs: the same distribution, at no cost in N.

    Args:
        ours: bool ``[S, N]``, whether the student of a seed is right on an image.
        theirs: the same of the other method, seeds and images in the same order.
        draws: resampled sets of images.
        seed: of the draws.
        confidence: of the interval.

    Raises:
        ValueError: arrays that are not bool, empty, or not of one shape ``[S, N]``; no draws; a confidence outside
            (0, 1).

    Source: Efron, Tibshirani, "An introduction to the bootstrap", 1993, chapter 13.
    """
    _check_confidence(confidence)
    if draws < 1:
        raise ValueError(f"expected draws to be 1 or more, but got {draws}")
    right, other = _answers(ours, "ours"), _answers(theirs, "theirs")
    if right.shape != other.shape:
        raise ValueError(
            f"expected ours and theirs to have the same seeds and images, but got {right.shape} and {other.shape}; "
            "take the seeds that both have"
        )
    seeds, images = right.shape
    values, counts = np.unique(right.sum(axis=0) - other.sum(axis=0), return_counts=True)
    points = 100 * values / (seeds * images)
    drawn = np.random.default_rng(seed).multinomial(images, counts / images, size=draws) @ points
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(counts @ points), float(low), float(high))


def band(values: Iterable[float], confidence: float = 0.95, new: int = 1) -> tuple[float, float]:
    """Where the mean of ``new`` further seeds is expected: mean ± t_{n−1}·sd·√(1/new + 1/n).

    Wider than the interval of the mean, since what comes has a spread of its own. Equal values have a band without
    width.

    Raises:
        ValueError: fewer than two values or one that is not finite, ``new`` below 1, or a confidence outside (0, 1).
    """
    _check_confidence(confidence)
    if new < 1:
        raise ValueError(f"expected new to be 1 seed or more, but got {new}")
    centre, sd, n = spread(values)
    if sd is None:
        raise ValueError("expected at least two seeds to know how much they differ, but got one; run another")
    half = _t(confidence, n) * sd * math.sqrt(1 / new + 1 / n)
    return centre - half, centre + half


def by_decile(correct: ArrayLike, level: ArrayLike) -> list[Tenth]:
    """Samples and accuracy of each tenth by rank of difficulty, easiest first; sizes differ by at most one.

    Samples of equal difficulty have no order: where a tenth ends among them, each counts as the mean of all of them,
    so the order of the samples changes nothing.

    Args:
        correct: ``[N]``, bool, or the share of seeds in [0, 1] that were right.
        level: ``[N]``, the level, the distance, or whatever grows with the difficulty.

    Raises:
        ValueError: not one level for each sample, no samples, or a value that is not finite.
    """
    right, difficulty = np.asarray(correct, np.float64), np.asarray(level)
    if right.ndim != 1 or right.shape != difficulty.shape or not right.size:
        raise ValueError(
            f"expected correct and level to be [N] for the same N > 0, but got {right.shape} and {difficulty.shape}"
        )
    if not (np.isfinite(right).all() and np.isfinite(difficulty).all()):
        raise ValueError("expected finite values of correct and level, but got some that are not")
    _, group, sizes = np.unique(difficulty, return_inverse=True, return_counts=True)
    shared = (np.bincount(group, right) / sizes)[np.sort(group)]
    return [
        Tenth(len(part), 100 * float(part.mean()) if len(part) else None) for part in np.array_split(shared, _TENTHS)
    ]


def _answers(answers: ArrayLike, name: str) -> npt.NDArray[np.bool_]:
    array = np.asarray(answers)
    if array.dtype != np.bool_ or array.ndim != 2 or not array.size:
        raise ValueError(f"expected {name} to be bool [S, N], not empty, but got {array.dtype} {list(array.shape)}")
    return array


def _verdict(low: float, high: float) -> Verdict:
    if low > 0:
        return "ahead"
    return "behind" if high < 0 else "no difference"


def _t(confidence: float, n: int) -> float:
    """How many standard errors of a mean of n the interval reaches to either side."""
    return float(stdtrit(n - 1, (1 + confidence) / 2))


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence to be between 0 and 1, like 0.95, but got {confidence}")
