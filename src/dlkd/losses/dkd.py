"""Decoupled knowledge distillation: the target class and the others, each with a weight of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.binary import event_kl, odds, split
from dlkd.losses.kl import check_pair
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, temperature_pair
from dlkd.losses.together import WithGradient, together


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
        classes = pairs.classes
        a, b = (pairs.expand(_column(w, student)) for w in (alpha, beta))
        z_s, z_t, t_s, t_t = (pairs.expand(x) for x in (student, teacher, t.student, t.teacher))

        def plain(z: Tensor) -> Tensor:
            p, q = split(z_t / t_t, classes), split(z / t_s, classes)
            # The class left out is 0 in both: its term vanishes by the difference.
            other_part = (p.others.exp() * (p.others - q.others)).sum(dim=1)
            return a * event_kl(p.event, q.event) + b * other_part

        def fast(z: Tensor) -> WithGradient:
            # α·(q_y − p_y) at the label; n_s·(β − α·(q_y − p_y)) − β·n_t elsewhere, n the softmaxes over the others.
            q, p = odds(z / t_s, classes), odds(z_t / t_t, classes)
            value, pull = event_kl(p.event, q.event), a * (q.event.yes.exp() - p.event.yes.exp())
            n_t = p.others.exp()
            value = a * value + b * p.others.sub_(q.others).mul_(n_t).sum(dim=1)
            gradient = q.others.exp_().mul_((b - pull).unsqueeze(1)).sub_(n_t.mul_(b.unsqueeze(1)))
            return WithGradient(value, gradient.scatter_(1, classes.unsqueeze(1), pull.unsqueeze(1)).div_(t_s))

        return pairs.gather(together(plain, fast, z_s, t_s, t_t, a, b), student.shape[0])


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
