"""Refined logit distillation: trust the label where the teacher errs."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.binary import event_kl, log_event, lowest, odds
from dlkd.losses.kl import check_pair
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.together import WithGradient, together


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
        classes, t, t_c = pairs.classes, temperature, confidence_temperature
        z_s, z_t = pairs.expand(student), pairs.expand(teacher)
        top = odds(z_t / t_c, z_t.argmax(dim=1)).event
        column = classes.unsqueeze(1)
        dropped = z_t >= z_t.gather(1, column)
        a, b = alpha * t_c**2, beta * t**2

        def plain(z: Tensor) -> Tensor:
            log_p, log_q = (torch.log_softmax((x / t).masked_fill(dropped, lowest(x)), dim=1) for x in (z_t, z))
            return a * event_kl(top, log_event(z / t_c, classes)) + b * (log_p.exp() * (log_p - log_q)).sum(dim=1)

        def fast(z: Tensor) -> WithGradient:
            log_p, log_q = (torch.log_softmax((x / t).masked_fill_(dropped, lowest(x)), dim=1) for x in (z_t, z))
            p, label = log_p.exp(), odds(z / t_c, classes)
            value = a * event_kl(top, label.event) + b * log_p.sub_(log_q).mul_(p).sum(dim=1)
            # The first part pulls at the label, and as much in all at the others; the second leaves the label out.
            pull = ((a / t_c) * (label.event.yes.exp() - top.yes.exp())).unsqueeze(1)
            gradient = log_q.exp_().sub_(p).mul_(b / t).sub_(label.others.exp_().mul_(pull))
            return WithGradient(value, gradient.scatter_(1, column, pull))

        return reduce(pairs.gather(together(plain, fast, z_s), student.shape[0]), reduction)
