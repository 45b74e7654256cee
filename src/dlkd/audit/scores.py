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


def label_score(teacher: Floats, probe: Floats, labels: Ints) -> Floats:
    """How well a label fits, ``[N]`` in [−1, 1], low for labels to be looked at: the margin by the mean of teacher and
    pruned copy.

    Args:
        teacher: probabilities ``[N, C]``.
        probe: the same of the pruned copy, or the mean over several.
        labels: as given ``[N]``.
    """
    return margin((teacher + probe) / 2, labels)


LEAST_WEIGHT = 1e-3
"""Of a label: below it, an image counts for nothing, and may as well be left out."""


def label_weights(teacher: Floats, probe: Floats, labels: Ints) -> Floats:
    """p_y / max_k p_k by the mean of teacher and pruned copy, at least 0.001, ``[N]``: 1 where both say what the label
    says, small where they are sure of another class. Ours.

    Args:
        teacher: probabilities ``[N, C]``.
        probe: the same of the pruned copy, or the mean over several.
        labels: as given ``[N]``.
    """
    mean = (teacher + probe) / 2
    found: Floats = (self_confidence(mean, labels) / mean.max(axis=1)).clip(LEAST_WEIGHT, 1)
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


def suggested_actions(teacher: Floats, probe: Floats, labels: Ints) -> tuple[Ints, Ints]:
    """What to do about each label, and which class to give instead.

    An image is looked at where the teacher is confident of another class than the given one, above that class's own
    threshold; it is relabelled where the pruned copy is confident of the same class. Whoever changes its mind for want
    of a few weights is not sure enough to overrule a person. Ours; the confident joint is Northcutt et al.'s.

    Args:
        teacher: probabilities ``[N, C]``.
        probe: the same of the pruned copy, or the mean over several.
        labels: as given ``[N]``.

    Returns:
        Numbers of :data:`ACTIONS` ``[N]``, and the teacher's confident class ``[N]``, the given one where it is kept.
    """
    of_teacher, of_probe = (confident_labels(p, thresholds(p, labels)) for p in (teacher, probe))
    other = (of_teacher >= 0) & (of_teacher != labels)
    actions = np.where(other, np.where(of_probe == of_teacher, RELABEL, LOOK), KEEP)
    return actions.astype(np.int64), np.where(other, of_teacher, labels).astype(np.int64)


def _check(probabilities: Floats, labels: Ints) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"expected probabilities [N, C] and one label for each row, but got {list(probabilities.shape)} and "
            f"{list(labels.shape)}"
        )
    if labels.size and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise ValueError(f"expected labels between 0 and {probabilities.shape[1] - 1}")
