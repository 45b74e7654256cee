"""How well does a given label fit what a teacher says? Pure functions of probabilities ``[N, C]`` and labels ``[N]``.

Probabilities must be of a model that has not seen these labels: out of fold, or of other images.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

KEEP, LOOK, RELABEL = 0, 1, 2
ACTIONS = ("keep", "look", "relabel")


def self_confidence(probabilities: Floats, labels: Ints) -> Floats:
    """p_y, the probability of the given label, ``[N]`` in [0, 1].

    Source: Northcutt, Jiang and Chuang, "Confident learning", JAIR 2021.
    """
    _check(probabilities, labels)
    found: Floats = probabilities[np.arange(labels.size), labels]
    return found


def margin(probabilities: Floats, labels: Ints) -> Floats:
    """p_y − max_{k≠y} p_k, ``[N]`` in [−1, 1]: negative where another class is likelier than the given one.

    Source: as ``normalized_margin`` of Northcutt et al. 2021, which is (this + 1)/2.
    """
    own = self_confidence(probabilities, labels)
    others = probabilities.copy()
    others[np.arange(labels.size), labels] = -np.inf
    found: Floats = own - others.max(axis=1)
    return found


def thresholds(probabilities: Floats, labels: Ints) -> Floats:
    """t_c = mean of p_c over the images that are labelled c, ``[C]``: how sure a model is of a class on average.

    Infinite for a class that no image is labelled with: nobody is sent there.

    Source: Northcutt et al. 2021, equation 2.
    """
    own, classes = self_confidence(probabilities, labels), probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, own, classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_labels(probabilities: Floats, limits: Floats) -> Ints:
    """The likeliest class among those with p_c ≥ t_c, ``[N]``; −1 where there is none.

    Source: Northcutt et al. 2021, equation 1: the column of the confident joint that an image is counted in.
    """
    allowed = np.where(probabilities >= limits, probabilities, -np.inf)
    best = allowed.argmax(axis=1)
    found: Ints = np.where(allowed[np.arange(best.size), best] > -np.inf, best, -1)
    return found


def noise_matrix(probabilities: Floats, labels: Ints, prior: float = 0.02) -> Floats:
    """p(given = y | true = k), ``[C, C]`` with rows that sum to 1: the confident joint, each cell with prior·N/C² more.

    Without the prior, a pair of classes that these images happen not to show would be impossible.

    Source: Northcutt et al. 2021, equation 1, normalised by rows.
    """
    classes, found = probabilities.shape[1], confident_labels(probabilities, thresholds(probabilities, labels))
    sure = found >= 0
    joint = np.bincount(found[sure] * classes + labels[sure], minlength=classes**2).reshape(classes, classes)
    smoothed = joint + prior * labels.size / classes**2
    matrix: Floats = smoothed / smoothed.sum(axis=1, keepdims=True)
    return matrix


def without_noise(probabilities: Floats, matrix: Floats, steps: int = 5) -> Floats:
    """Probabilities q of the true class ``[N, C]`` out of p of the given one, p ≈ q·T: so many steps of
    q_k ← q_k·Σ_y T_ky·p_y/(q·T)_y from q = p.

    A model that learnt from noisy labels foretells noisy labels. The steps are those of expectation maximisation for
    the mixing shares of known parts; few of them, since p is no more than an estimate.

    Source: Richardson, "Bayesian-based iterative method of image restoration", 1972; Lucy, 1974.
    """
    p = probabilities.astype(np.float64)
    q = p.copy()
    for _ in range(steps):
        q *= (p / np.maximum(q @ matrix, np.finfo(np.float64).tiny)) @ matrix.T
        q /= q.sum(axis=1, keepdims=True)
    return q


def label_posterior(probabilities: Floats, labels: Ints) -> Floats:
    """p(true = k | image, given = y) ∝ q_k·T_ky, ``[N, C]``: what teacher and label say together.

    T is :func:`noise_matrix`, q :func:`without_noise`. Its column of the given label is the probability that the label
    is right. Ours; as found by benchmarks/audit.py, it finds wrong labels of people, and those that stay in their
    superclass, better than p_y, and labels that are wrong at random a little less well (docs/audit.md).

    Args:
        probabilities: out of fold ``[N, C]``.
        labels: as given ``[N]``.
    """
    _check(probabilities, labels)
    if not labels.size:
        return probabilities.astype(np.float64)
    matrix = noise_matrix(probabilities, labels)
    found: Floats = without_noise(probabilities, matrix) * matrix[:, labels].T
    found /= np.maximum(found.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return found


def suggested_actions(posterior: Floats, labels: Ints) -> tuple[Ints, Ints]:
    """What to do about each label, and the likeliest class.

    Args:
        posterior: :func:`label_posterior`, ``[N, C]``.
        labels: as given ``[N]``.

    Returns:
        Numbers of :data:`ACTIONS` ``[N]``: keep a label that is likelier right than wrong, relabel where one other
        class is likelier than all others together, else look at it. And the likeliest class ``[N]``, the given one
        where it is kept.
    """
    best, right = posterior.argmax(axis=1), self_confidence(posterior, labels)
    sure = (posterior.max(axis=1) > 0.5) & (best != labels)
    actions = np.where(sure, RELABEL, np.where(right < 0.5, LOOK, KEEP))
    return actions.astype(np.int64), np.where(actions == KEEP, labels, best).astype(np.int64)


def _check(probabilities: Floats, labels: Ints) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"expected probabilities [N, C] and one label for each row, but got {list(probabilities.shape)} and "
            f"{list(labels.shape)}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"expected labels between 0 and {probabilities.shape[1] - 1}")
