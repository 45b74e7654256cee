"""Normalised knowledge distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.binary import odds
from dlkd.losses.kl import check_pair
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.temperature import Temperature, temperature_pair


def nkd_divergence(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: Temperature, *, gamma: float = 3.5
) -> Tensor:
    """−p_t,y·log p_s,y at T = 1, plus γ·T_t·T_s·CE(n_t, n_s) of the softmaxes n over the other classes.

    A cross-entropy form: the teacher's entropy is not subtracted, so its least value is not 0. The factor
    T² is inside, and on the second part only. With two classes the second part is 0.

    Args:
        student_logits, teacher_logits: ``[B, C]``; the gradient flows to the student only.
        target: class numbers ``[B]``, or soft labels ``[B, C]``: the mean over the labels by their shares.
        temperature: of the second part: a float, ``[B]``, or a pair of ``[B, 1]``.
        gamma: weight of the second part.

    Returns:
        ``[B]``, fp32 (fp64 for fp64 logits).

    Source: Yang et al., "From knowledge distillation to self-knowledge distillation", ICCV 2023, equation 7.
    """
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)
        pairs = label_shares(target, student)
        column = pairs.classes.unsqueeze(1)
        p_target = torch.log_softmax(teacher, dim=1)
        q_target = torch.log_softmax(student, dim=1)
        p_y = pairs.expand(p_target).gather(1, column).squeeze(1).exp()
        target_part = -p_y * pairs.expand(q_target).gather(1, column).squeeze(1)
        # odds writes over its logits: a batch of one with several labels is a view, which wants a copy.
        scaled = (pairs.expand(z / each).contiguous() for z, each in ((teacher, t.teacher), (student, t.student)))
        p, q = (odds(z, pairs.classes).others for z in scaled)
        # A 0 at the class left out: a factor as low as it is there would overflow in the gradient of a temperature.
        other_part = -(p.exp() * q.scatter(1, column, 0.0)).sum(dim=1)
        square = pairs.expand((t.teacher * t.student).mean(dim=1).expand(student.shape[0]))
        return pairs.gather(target_part + gamma * square * other_part, student.shape[0])


def nkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 3.5,
    temperature: float | Tensor = 3.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """The NKD term; see :func:`nkd_divergence`. No cross-entropy inside; T² is inside, on its second part."""
    return reduce(nkd_divergence(student_logits, teacher_logits, target, temperature, gamma=gamma), reduction)
