"""Decoupled knowledge distillation: the target class and the others, each with a weight of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.binary import event_kl, split
from dlkd.losses.kl import check_pair
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, temperature_pair


def dkd_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: Temperature,
    *,
    alpha: float | Tensor = 1.0,
    beta: float | Tensor = 8.0,
) -> Tensor:
    """α·TCKD + β·NCKD of each sample, without any factor T².

    TCKD = KL of the two-event distributions (p_y, 1 − p_y); NCKD = KL of the softmaxes over the other classes.
    With α = 1 and β = 1 − p_t,y it is KL. With two classes NCKD is 0.

    Args:
        student_logits, teacher_logits: ``[B, C]``; the gradient flows to the student only.
        target: class numbers ``[B]``, or soft labels ``[B, C]``: the mean over the labels by their shares.
        temperature: a float, ``[B]``, or a pair.
        alpha, beta: numbers, or ``[B]``.

    Returns:
        ``[B]``, fp32 (fp64 for fp64 logits).

    Source: Zhao et al., "Decoupled knowledge distillation", CVPR 2022, equation 7.
    """
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)
        pairs = label_shares(target, student)
        z_s, z_t = pairs.expand(student / t.student), pairs.expand(teacher / t.teacher)
        p, q = split(z_t, pairs.classes), split(z_s, pairs.classes)
        target_part = event_kl(p.event, q.event)
        # The class left out is 0 in both: its term vanishes by the difference.
        other_part = (p.others.exp() * (p.others - q.others)).sum(dim=1)
        a, b = (pairs.expand(_column(w, student)) for w in (alpha, beta))
        return pairs.gather(a * target_part + b * other_part, student.shape[0])


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float | Tensor = 1.0,
    beta: float | Tensor = 8.0,
    temperature: float | Tensor = 4.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """T²·(α·TCKD + β·NCKD); see :func:`dkd_divergence`. No cross-entropy inside; T² is inside."""
    rows = dkd_divergence(student_logits, teacher_logits, target, temperature, alpha=alpha, beta=beta)
    return reduce(rows * _column(temperature, rows).square(), reduction)


def _column(value: float | Tensor, like: Tensor) -> Tensor:
    w = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    if w.ndim > 1 or (w.ndim == 1 and w.shape[0] != like.shape[0]):
        raise ValueError(f"expected a number or one for each of {like.shape[0]} samples, but got {list(w.shape)}")
    return w.expand(like.shape[0])
