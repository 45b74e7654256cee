"""Refined logit distillation: trust the label where the teacher errs."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.binary import event_kl, log_event
from dlkd.losses.kl import check_pair
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce


def rld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    confidence_temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """α·T_c²·KL(confidence) + β·T²·KL(classes below the label).

    - Confidence: the two-event distribution (top-1 probability of the teacher, rest) against (probability that
      the student gives the label, rest), at T_c: the student is as sure of the label as the teacher is of its
      favourite.
    - Below: KL of the softmaxes at T over the classes whose teacher logit is strictly below that of the label;
      the label and ties are left out. None left, or one: 0.

    T² is inside both parts; no cross-entropy inside. Soft labels ``[B, C]``: the mean over the labels by their
    shares. The published CIFAR-100 command uses one temperature for both parts (``--same-t``), its config 1.

    Source: Sun et al., "Knowledge distillation with refined logits", ICCV 2025.
    """
    check_pair(student_logits, teacher_logits)
    for name, value in (("temperature", temperature), ("confidence_temperature", confidence_temperature)):
        if not 0 < value < float("inf"):
            raise ValueError(f"expected {name} to be positive and finite, but got {value}")
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        pairs = label_shares(target, student)
        z_s, z_t = pairs.expand(student), pairs.expand(teacher)
        top = log_event(z_t / confidence_temperature, z_t.argmax(dim=1))
        confidence = event_kl(top, log_event(z_s / confidence_temperature, pairs.classes))
        below = _below(z_s, z_t, pairs.classes, temperature)
        rows = alpha * confidence_temperature**2 * confidence + beta * temperature**2 * below
        return reduce(pairs.gather(rows, student.shape[0]), reduction)


def _below(z_s: Tensor, z_t: Tensor, classes: Tensor, temperature: float) -> Tensor:
    kept = z_t < z_t.gather(1, classes.unsqueeze(1))
    # A row without any class left would be a softmax over nothing; all classes stand in and are not counted.
    dropped = ~kept & kept.any(dim=1, keepdim=True)
    log_p = torch.log_softmax((z_t / temperature).masked_fill(dropped, -torch.inf), dim=1).masked_fill(~kept, 0.0)
    log_q = torch.log_softmax((z_s / temperature).masked_fill(dropped, -torch.inf), dim=1).masked_fill(~kept, 0.0)
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)
