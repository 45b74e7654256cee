"""Multi-level logit distillation: each sample at several temperatures, and the Gram matrices of batch and classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.losses.kl import check_pair, kl_divergence
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, Temperatures, temperature_pair

LADDER = (2.0, 3.0, 4.0, 5.0, 6.0)


class Levels(NamedTuple):
    """The three levels of one view at one temperature."""

    instance: Tensor
    """``[B]``: T_t·T_s·KL."""
    batch: Tensor
    """A scalar: ‖P_t·P_tᵀ − P_s·P_sᵀ‖²/B."""
    classes: Tensor
    """A scalar: ‖P_tᵀ·P_t − P_sᵀ·P_s‖²/C."""


def mlkd_levels(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> Levels:
    """Instance, batch and class level of softmax(z_t/T) = P_t and softmax(z_s/T) = P_s, ``[B, C]`` each.

    With A = P_t − P_s, S = P_t + P_s and M = A·Sᵀ the Gram matrices of the batch differ by (M + Mᵀ)/2, and the squared
    norm of the difference of those of the classes is (⟨A·Aᵀ, S·Sᵀ⟩ + ⟨M, Mᵀ⟩)/2: no ``[C, C]`` is formed, and nothing
    cancels where the student is close.

    Source: Jin, Wang, Lin, "Multi-level logit distillation", CVPR 2023.
    """
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)
        instance = (t.teacher * t.student).mean(dim=1) * kl_divergence(student, teacher, t)
        p, q = torch.softmax(teacher / t.teacher, dim=1), torch.softmax(student / t.student, dim=1)
        a, s = p - q, p + q
        m = a @ s.T
        batch = ((m + m.T) / 2).square().sum() / p.shape[0]
        classes = ((a @ a.T) * (s @ s.T) + m * m.T).sum() / (2 * p.shape[1])
        return Levels(instance, batch, classes)


def mlkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperatures: Sequence[float] = LADDER,
    reduction: Reduction = "mean",
) -> Tensor:
    """Σ_T [T²·KL(T) + batch level + class level] of one view; see :func:`mlkd_levels`.

    T² is inside the instance level only; labels are not used. The method adds the same of a second, strongly
    augmented view, and the cross-entropy of both.
    """
    found = [mlkd_levels(student_logits, teacher_logits, t) for t in temperatures]
    rows = torch.stack([f.instance for f in found]).sum(dim=0)
    return reduce(rows, reduction, torch.stack([f.batch + f.classes for f in found]).sum())


def scaled(temperatures: Temperatures, factor: float) -> Temperatures:
    """Both temperatures times ``factor``: one rung of a ladder."""
    return Temperatures(temperatures.teacher * factor, temperatures.student * factor)
