"""Mean squared error of logits."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dlkd.losses.kl import check_pair
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce


def mse_loss(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None, *, reduction: Reduction = "mean"
) -> Tensor:
    """1/C·Σ_c (z_s,c − z_t,c)²; no temperature, the labels are not used.

    It is no function of the predictions alone: a constant added to a row of logits changes it.

    Source: Ba and Caruana, "Do deep nets really need to be deep?", NeurIPS 2014.
    """
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        return reduce(functional.mse_loss(student, teacher, reduction="none").mean(dim=1), reduction)
