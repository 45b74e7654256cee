"""How much does a sample count? Pure functions to ``[B]``, without gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.precision import frozen, full_precision, no_autocast


@torch.no_grad()
def wsld_weight(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, eps: float = 1e-7) -> Tensor:
    """1 − exp(−CE_s/(CE_t + ε)), cross-entropies to the label at T = 1: small where the student is the better one.

    Soft labels: the cross-entropies to them.

    Source: Zhou et al., "Rethinking soft labels for knowledge distillation", ICLR 2021, equation 9.
    """
    student = cross_entropy(student_logits.detach(), target)
    teacher = cross_entropy(frozen(teacher_logits), target)
    return -torch.expm1(-student / (teacher + eps))


@torch.no_grad()
def wttm_weight(teacher_logits: Tensor, exponent: float) -> Tensor:
    """U = Σ_c p_t,c^g, in [1, C^(1−g)]: large for uncertain teachers.

    Source: Zheng and Yang, "Knowledge distillation based on transformed teacher matching", ICLR 2024, equation 17.
    """
    with no_autocast(teacher_logits):
        log_p = torch.log_softmax(full_precision(frozen(teacher_logits)), dim=1)
        return (exponent * log_p).exp().sum(dim=1)


@torch.no_grad()
def entropy_weight(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.0, *, bound: float | None = None
) -> Tensor:
    """H_t·(1 + H_s/H_max)/2 with entropies in nats at one temperature: large where teacher (and student) doubt.

    Args:
        bound: H_max. The paper says log C (None, the default); the official code has the number 100 for
            CIFAR-100, which all but switches the student's entropy off.

    Source: Su et al., "EA-KD: entropy-based adaptive knowledge distillation", ICCV 2025, equation 6.
    """
    h_t, h_s = entropy(teacher_logits, temperature), entropy(student_logits, temperature)
    highest = math.log(teacher_logits.shape[1]) if bound is None else bound
    return h_t * (1 + h_s / highest) / 2


def entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """−Σ_c p_c·log p_c of softmax(z/T), in nats, ``[B]``."""
    with no_autocast(logits):
        log_p = torch.log_softmax(full_precision(logits) / temperature, dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
