"""The losses of :mod:`dlkd.losses` as choices of a :class:`Composition`: divergences, transforms, weights, labels."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.dkd import dkd_divergence
from dlkd.losses.mse import mse_loss
from dlkd.losses.nkd import nkd_divergence
from dlkd.losses.relation import dist_relation
from dlkd.losses.rld import rld_loss
from dlkd.losses.standardize import z_score
from dlkd.losses.temperature import Temperatures
from dlkd.losses.tempered import dtkd_divergence, soft_cross_entropy
from dlkd.losses.weights import entropy_weight, wsld_weight, wttm_weight
from dlkd.methods.composition import Divergence, Signals, kl

Diverges = Callable[[Signals, Temperatures], Divergence]
Weighs = Callable[[Signals, Temperatures], Tensor]


def kl_or_cross_entropy(*, wsld: bool) -> Diverges:
    """KL; for WSLD the cross-entropy, as published: a weight that looks at the student makes the values differ."""
    return _soft_ce if wsld else kl


def _soft_ce(signals: Signals, t: Temperatures) -> Divergence:
    return Divergence(soft_cross_entropy(signals.student_logits, signals.teacher_logits, t))


def dkd(alpha: float, beta: float) -> Diverges:
    """α·TCKD + β·NCKD."""
    return lambda x, t: Divergence(
        dkd_divergence(x.student_logits, x.teacher_logits, x.target, t, alpha=alpha, beta=beta)
    )


def nkd(gamma: float) -> Diverges:
    """The NKD term, its T² inside."""
    return lambda x, t: Divergence(nkd_divergence(x.student_logits, x.teacher_logits, x.target, t, gamma=gamma))


def dist(beta: float, gamma: float) -> Diverges:
    """Correlations: rows are the part of each sample, columns that of the batch."""

    def diverge(x: Signals, t: Temperatures) -> Divergence:
        relation = dist_relation(x.student_logits, x.teacher_logits, t)
        return Divergence(beta * relation.rows, gamma * relation.columns)

    return diverge


def rld(alpha: float, beta: float, temperature: float, confidence_temperature: float) -> Diverges:
    """The RLD term, its T² inside; temperatures are its own."""
    return lambda x, t: Divergence(
        rld_loss(
            x.student_logits,
            x.teacher_logits,
            x.target,
            alpha=alpha,
            beta=beta,
            temperature=temperature,
            confidence_temperature=confidence_temperature,
            reduction="none",
        )
    )


def mse(signals: Signals, t: Temperatures) -> Divergence:
    """Mean squared error of the logits."""
    return Divergence(mse_loss(signals.student_logits, signals.teacher_logits, reduction="none"))


def dtkd(alpha: float, beta: float, temperature: float) -> Diverges:
    """α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T)."""

    return lambda x, t: Divergence(
        dtkd_divergence(x.student_logits, x.teacher_logits, t, alpha=alpha, beta=beta, temperature=temperature)
    )


def standardised(unbiased: bool) -> Callable[[Signals], Signals]:
    """z-scores of both logits."""

    def transform(x: Signals) -> Signals:
        student, teacher = (z_score(z, unbiased=unbiased) for z in (x.student_logits, x.teacher_logits))
        return x._replace(student_logits=student, teacher_logits=teacher)

    return transform


def wsld(signals: Signals, t: Temperatures) -> Tensor:
    """1 − exp(−CE_s/CE_t)."""
    return wsld_weight(signals.student_logits, signals.teacher_logits, signals.target)


def wttm(exponent: float) -> Weighs:
    """Σ p_t^g."""
    return lambda x, t: wttm_weight(x.teacher_logits, exponent)


def entropies(temperature: float, bound: float | None) -> Weighs:
    """H_t·(1 + H_s/H_max)/2."""
    return lambda x, t: entropy_weight(x.student_logits, x.teacher_logits, temperature, bound=bound)


def smoothed_cross_entropy(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    """CE to (1 − ε)·y + ε/C.

    Raises:
        ValueError: ε is not in [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"expected smoothing to be in [0, 1), but got {smoothing}")

    def label(logits: Tensor, target: Tensor) -> Tensor:
        uniform = logits.new_full(logits.shape, 1 / logits.shape[1], dtype=logits.float().dtype)
        return (1 - smoothing) * cross_entropy(logits, target) + smoothing * cross_entropy(logits, uniform)

    return label
