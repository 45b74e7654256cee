"""The losses of :mod:`dlkd.losses` as choices of a :class:`Composition`: divergences, transforms, weights, labels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dlkd.losses.dkd import dkd_divergence
from dlkd.losses.mlkd import mlkd_levels, scaled
from dlkd.losses.mse import mse_loss
from dlkd.losses.nkd import nkd_divergence
from dlkd.losses.relation import cosine_relation, dist_relation
from dlkd.losses.rld import rld_loss
from dlkd.losses.standardize import z_score
from dlkd.losses.temperature import Temperatures
from dlkd.losses.tempered import dtkd_divergence, soft_cross_entropy
from dlkd.losses.weights import entropy_weight, wsld_weight, wttm_weight
from dlkd.methods.composition import Divergence, Signals

Diverges = Callable[[Signals, Temperatures], Divergence]
Weighs = Callable[[Signals, Temperatures], Tensor]


def soft_ce(signals: Signals, t: Temperatures) -> Divergence:
    """Cross-entropy, which differs from KL in its value: a weight that looks at the student makes that matter."""
    return Divergence(soft_cross_entropy(signals.student_logits, signals.teacher_logits, t))


def dkd(alpha: float, beta: float) -> Diverges:
    """α·TCKD + β·NCKD."""
    return lambda x, t: Divergence(
        dkd_divergence(x.student_logits, x.teacher_logits, x.target, t, alpha=alpha, beta=beta)
    )


def nkd(gamma: float) -> Diverges:
    """The NKD term, its T² inside."""
    return lambda x, t: Divergence(nkd_divergence(x.student_logits, x.teacher_logits, x.target, t, gamma=gamma))


def dist(beta: float, gamma: float, eps: float) -> Diverges:
    """Correlations: rows are the part of each sample, columns that of the batch."""

    def diverge(x: Signals, t: Temperatures) -> Divergence:
        relation = dist_relation(x.student_logits, x.teacher_logits, t, eps=eps)
        return Divergence(beta * relation.rows, gamma * relation.columns)

    return diverge


def cosine(eps: float) -> Diverges:
    """Cosines, not centred: R2KD."""
    return lambda x, t: Divergence(*cosine_relation(x.student_logits, x.teacher_logits, t, eps=eps))


RUNGS = (1.0, 0.75, 1.25, 0.5, 1.5)
"""Multiples of T: 4, 3, 5, 2 and 6 at T = 4."""
CODE_RUNGS = (3.0, 5.0, 2.0, 6.0)
"""Those of the published code beside T, whatever T is."""


def mlkd(variant: str) -> Diverges:
    """Instance, batch and class level over the rungs, of the view at hand; ``code`` repeats the published sums."""
    return _mlkd_of_the_paper if variant == "paper" else _mlkd_of_the_code


def _mlkd_of_the_paper(x: Signals, t: Temperatures) -> Divergence:
    found = [mlkd_levels(x.student_logits, x.teacher_logits, scaled(t, rung)) for rung in RUNGS]
    batch, classes = (torch.stack(terms).sum() for terms in ([f.batch for f in found], [f.classes for f in found]))
    return Divergence(torch.stack([f.instance for f in found]).sum(dim=0), batch + classes)


def _mlkd_of_the_code(x: Signals, t: Temperatures) -> Divergence:
    fixed = [torch.full_like(t.student, rung) for rung in CODE_RUNGS]
    ladder = [t, *(Temperatures(rung, rung) for rung in fixed)]
    # Of z-scores only the instance level is made: both Gram matrices, and who is sure, are of the logits as they were.
    student, teacher = x.raw or (x.student_logits, x.teacher_logits)
    grams = [mlkd_levels(student, teacher, rung) for rung in ladder]
    seen = grams if x.raw is None else [mlkd_levels(x.student_logits, x.teacher_logits, rung) for rung in ladder]
    instance = torch.stack([level.instance for level in seen])
    if x.strong:
        return Divergence(instance[:3].sum(dim=0))
    batch, classes = (torch.stack(terms).sum() for terms in ([g.batch for g in grams], [g.classes for g in grams]))
    confident = torch.softmax(teacher, dim=1)
    samples, kinds = (_share_below_median(c) for c in (confident.amax(dim=1), confident.sum(dim=0)))
    rows = samples * instance.sum(dim=0) + instance[3:].sum(dim=0)
    return Divergence(rows, samples * batch + kinds * classes)


def _share_below_median(values: Tensor) -> Tensor:
    return (values <= torch.quantile(values, 0.5)).to(values).mean()


def mixed_with_probe(share: float) -> Callable[[Signals], Signals]:
    """The teacher's logits become share·z_t + (1 − share)·z_p.

    Raises:
        ValueError: the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected share to be in [0, 1], but got {share}")

    def transform(x: Signals) -> Signals:
        if x.probe_logits is None:
            raise ValueError("expected probe_logits for this method, but got none")
        return x._replace(teacher_logits=share * x.teacher_logits + (1 - share) * x.probe_logits)

    return transform


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
    """z-scores of both logits; those that were there are kept as ``raw``."""

    def transform(x: Signals) -> Signals:
        student, teacher = (z_score(z, unbiased=unbiased) for z in (x.student_logits, x.teacher_logits))
        return x._replace(student_logits=student, teacher_logits=teacher, raw=(x.student_logits, x.teacher_logits))

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
