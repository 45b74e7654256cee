"""Relations instead of values: correlation (DIST) and cosine (R2KD) of probabilities, along classes and batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.losses.kl import check_pair
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, temperature_pair
from dlkd.losses.together import WithGradient, together


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
        return Relation(_dissimilarity(p, q, 1, eps, True), _dissimilarity(p, q, 0, eps, True).mean())


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
        return Relation(_dissimilarity(p, q, 1, eps, False), _dissimilarity(p, q, 0, eps, False).mean())


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


def _dissimilarity(p: Tensor, q: Tensor, dim: int, eps: float, centred: bool) -> Tensor:
    """1 − cosine along ``dim``, of the centred values for a correlation."""

    def plain(values: Tensor) -> Tensor:
        a, b = (_centred(x, dim) if centred else x for x in (p, values))
        return 1 - _cosine(a, b, dim, eps)

    def fast(values: Tensor) -> WithGradient:
        (a, _), (b, length) = (_unit(x, dim, centred) for x in (p, values))
        cosine = (a * b).sum(dim=dim, keepdim=True)
        return WithGradient(1 - cosine.squeeze(dim), a.addcmul_(b, cosine, value=-1).div_(-length))

    if not q.shape[0]:
        return q.sum(dim=dim)  # of an empty batch nothing is dissimilar
    return plain(q) if eps else together(plain, fast, q, p, dim=dim)


def _unit(values: Tensor, dim: int, centred: bool) -> tuple[Tensor, Tensor]:
    """Vectors of length 1, and their lengths; one that is constant becomes 0 and has the length ∞: no gradient."""
    largest = values.amax(dim=dim, keepdim=True)
    rounding = largest.new_full((), _vanishing(values))
    if centred:
        rounding = (4 * torch.finfo(values.dtype).eps * largest).clamp(min=rounding)
        mean = values.mean(dim=dim, keepdim=True)
        largest = torch.maximum(largest - mean, mean - values.amin(dim=dim, keepdim=True))
        values = values - mean
    dead = largest <= rounding
    scale = largest.masked_fill(dead, torch.inf)
    # Scaled first: the square of a probability of 1e-30 underflows in fp32.
    scaled = values.div_(scale) if centred else values / scale
    length = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True).masked_fill_(dead, torch.inf)
    return scaled.div_(length), length * scale


def _centred(values: Tensor, dim: int) -> Tensor:
    """Minus the mean; exactly 0 where all are equal, for the rounding of a mean correlates with anything."""
    centred = values - values.mean(dim=dim, keepdim=True)
    rounding = 4 * torch.finfo(values.dtype).eps * values.detach().abs().amax(dim=dim, keepdim=True)
    flat = centred.detach().abs().amax(dim=dim, keepdim=True) <= rounding
    return centred.masked_fill(flat, 0.0)


def _cosine(a: Tensor, b: Tensor, dim: int, eps: float) -> Tensor:
    """<a, b>/(‖a‖·‖b‖ + ε); 0 with gradient 0 where one of them vanishes."""
    # Scaled first: the square of a probability of 1e-30 underflows in fp32.
    least = _vanishing(a)
    scale_a = a.detach().abs().amax(dim=dim, keepdim=True).clamp(min=least)
    scale_b = b.detach().abs().amax(dim=dim, keepdim=True).clamp(min=least)
    unit_a, unit_b = a / scale_a, b / scale_b
    square_a, square_b = unit_a.square().sum(dim=dim), unit_b.square().sum(dim=dim)
    dead = ((scale_a == least) | (scale_b == least)).squeeze(dim)
    # The root is taken where it has a gradient; elsewhere the correlation is 0 by definition.
    norm = (torch.where(dead, 1.0, square_a) * torch.where(dead, 1.0, square_b)).sqrt()
    if eps:
        norm = norm + eps / (scale_a * scale_b).squeeze(dim).clamp(min=least)
    return torch.where(dead, 0.0, (unit_a * unit_b).sum(dim=dim) / norm)


def _vanishing(like: Tensor) -> float:
    """What is not larger than this counts as 0: the gradient of a cosine is one over the length."""
    return 1e3 * torch.finfo(like.dtype).tiny
