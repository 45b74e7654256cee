"""Hinton's knowledge distillation loss with one temperature for all samples or one for each."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, Temperatures, temperature_pair
from dlkd.losses.together import WithGradient, together


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> Tensor:
    """KL(softmax(z_t/T_t) || softmax(z_s/T_s)) of each sample, in nats, without any factor T².

    Args:
        student_logits: ``[B, C]``; the gradient flows here, and to a temperature that asks for one.
        teacher_logits: ``[B, C]``; cut from the graph.
        temperature: a positive float, ``[B]`` with one temperature for each sample, or a pair.

    Returns:
        ``[B]``, fp32 (fp64 for fp64 logits); finite with finite gradient for logits up to ±1e4.

    Raises:
        ValueError: shapes differ, are not ``[B, C]``, or a temperature is not positive and finite.

    Source: Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network", 2015.
    """
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)

        def plain(z: Tensor) -> Tensor:
            log_p, log_q = torch.log_softmax(teacher / t.teacher, dim=1), torch.log_softmax(z / t.student, dim=1)
            return (log_p.exp() * (log_p - log_q)).sum(dim=1)

        def fast(z: Tensor) -> WithGradient:
            log_p, log_q = torch.log_softmax(teacher / t.teacher, dim=1), torch.log_softmax(z / t.student, dim=1)
            p = log_p.exp()
            value = log_p.sub_(log_q).mul_(p).sum(dim=1)
            return WithGradient(value, log_q.exp_().sub_(p).div_(t.student))

        return together(plain, fast, student, *t)


def kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float | Tensor = 4.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """T²·KL(softmax(z_t/T) || softmax(z_s/T)), summed over classes, averaged over samples.

    T² is inside: it keeps the size of the gradient when T changes (Hinton et al. 2015, section 2). The labels are not
    used. Other arguments and errors are those of :func:`kl_divergence`, but a pair of temperatures is refused: it has
    no one T². ``reduction="none"`` returns ``[B]``.
    """
    if target is not None and not isinstance(target, Tensor):
        raise ValueError(f"expected target to be a tensor of labels, but got {target!r}; did you mean temperature=?")
    if isinstance(temperature, Temperatures):
        raise ValueError("expected one temperature for teacher and student, but got a pair; use kl_divergence")
    divergence = kl_divergence(student_logits, teacher_logits, temperature)
    t = temperature_pair(temperature, divergence.unsqueeze(1)).student.squeeze(1)
    return reduce(t.square() * divergence, reduction)


def check_pair(a: Tensor, b: Tensor) -> None:
    """Two sets of logits must both be ``[B, C]`` of one shape."""
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            "expected both logits to have one shape [batch, classes], "
            f"but got {list(a.shape)} and {list(b.shape)}; do the two models have the same classes?"
        )
