"""Relations instead of values: correlation (DIST) and cosine (R2KD) of probabilities, along classes and batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.losses.kl import check_pair
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, temperature_pair


class Relation(NamedTuple):
    """How dissimilar the probabilities are."""

    rows: Tensor
    """``[B]``: 1 − similarity along the classes."""
    columns: Tensor
    """A scalar: mean over classes of 1 − similarity along the batch."""


def dist_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, *, eps: float = 0.0
) -> Relation:
    """1 − Pearson correlation of softmax(z_t/T) and softmax(z_s/T), along classes and along the batch.

    Args:
        student_logits, teacher_logits: ``[B, C]``; the gradient flows to the student only.
        temperature: a float, ``[B]``, or a pair.
        eps: added to the product of the norms. The official code adds 1e-8, which is visible where columns
            are tiny (at 1,000 classes and T = 1, 0.794 instead of 0.716); 0 is the exact correlation. What is
            constant (a batch of one, along the batch) correlates with nothing: 0.

    Source: Huang et al., "Knowledge distillation from a stronger teacher", NeurIPS 2022, equations 8 to 10.
    """
    p, q = _probabilities(student_logits, teacher_logits, temperature)
    with no_autocast(student_logits):
        rows = 1 - _cosine(_centred(p, 1), _centred(q, 1), 1, eps)
        columns = 1 - _cosine(_centred(p, 0), _centred(q, 0), 0, eps)
        return Relation(rows, columns.mean())


def cosine_relation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature, *, eps: float = 0.0
) -> Relation:
    """1 − cosine of softmax(z_t/T) and softmax(z_s/T), not centred, along classes and along the batch.

    R2KD calls it the Eisen cosine and takes its absolute value, which does nothing to probabilities.
    Arguments are those of :func:`dist_relation`.

    Source: Kim, Ham, Cho, Kim, "Robustness-reinforced knowledge distillation", IEEE TKDE 2024.
    """
    p, q = _probabilities(student_logits, teacher_logits, temperature)
    with no_autocast(student_logits):
        return Relation(1 - _cosine(p, q, 1, eps), (1 - _cosine(p, q, 0, eps)).mean())


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float | Tensor = 4.0,
    eps: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """T²·[β·(1 − mean row correlation) + γ·(1 − mean column correlation)]; see :func:`dist_relation`.

    T² is inside (for one temperature a sample, its mean on the columns); the labels are not used. Columns run
    over the batch at hand. The official objective is CE + 2·DIST.
    """
    relation = dist_relation(student_logits, teacher_logits, temperature, eps=eps)
    return _scaled(relation, temperature, beta, gamma, reduction)


def r2kd_value_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    probe_logits: Tensor | None = None,
    share: float = 0.7,
    weight: float = 2.0,
    temperature: float | Tensor = 4.0,
    eps: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """w·T²·[(1 − mean row cosine) + (1 − mean column cosine)] against share·z_t + (1 − share)·z_probe.

    T² is inside; the labels are not used. Without ``probe_logits`` the teacher stands alone. The rank loss of
    R2KD is left out: its ranks carry no gradient, so it is a constant for the optimiser.
    """
    if probe_logits is not None:
        teacher_logits = share * full_precision(teacher_logits) + (1 - share) * full_precision(probe_logits)
    relation = cosine_relation(student_logits, teacher_logits, temperature, eps=eps)
    return _scaled(relation, temperature, weight, weight, reduction)


def _scaled(
    relation: Relation, temperature: float | Tensor, rows: float, columns: float, reduction: Reduction
) -> Tensor:
    """T²·(rows·… + columns·…); columns belong to no sample and get the mean of T²."""
    square = torch.as_tensor(temperature, dtype=relation.rows.dtype, device=relation.rows.device).square()
    return reduce(rows * square * relation.rows, reduction, columns * square.mean() * relation.columns)


def _probabilities(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> tuple[Tensor, Tensor]:
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)
        return torch.softmax(teacher / t.teacher, dim=1), torch.softmax(student / t.student, dim=1)


def _centred(values: Tensor, dim: int) -> Tensor:
    """Minus the mean; exactly 0 where all are equal, for the rounding of a mean correlates with anything."""
    centred = values - values.mean(dim=dim, keepdim=True)
    rounding = 4 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim=dim, keepdim=True)
    flat = centred.detach().abs().amax(dim=dim, keepdim=True) <= rounding
    return centred.masked_fill(flat, 0.0)


def _cosine(a: Tensor, b: Tensor, dim: int, eps: float) -> Tensor:
    """<a, b>/(‖a‖·‖b‖ + ε); 0 with gradient 0 where one of them vanishes."""
    # Scaled first: the square of a probability of 1e-30 underflows in fp32.
    tiny = torch.finfo(a.dtype).tiny
    scale_a = a.detach().abs().amax(dim=dim, keepdim=True).clamp(min=tiny)
    scale_b = b.detach().abs().amax(dim=dim, keepdim=True).clamp(min=tiny)
    unit_a, unit_b = a / scale_a, b / scale_b
    square_a, square_b = unit_a.square().sum(dim=dim), unit_b.square().sum(dim=dim)
    dead = (square_a < 1e-12) | (square_b < 1e-12)
    # The root is taken where it has a gradient; elsewhere the correlation is 0 by definition.
    norm = (torch.where(dead, 1.0, square_a) * torch.where(dead, 1.0, square_b)).sqrt()
    if eps:
        norm = norm + eps / (scale_a * scale_b).squeeze(dim).clamp(min=tiny)
    return torch.where(dead, 0.0, (unit_a * unit_b).sum(dim=dim) / norm)
