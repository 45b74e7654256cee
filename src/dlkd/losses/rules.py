"""Temperature rules: how soft is the lesson of each sample? Pure functions from logits to a pair."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.standardize import row_std
from dlkd.losses.temperature import Temperatures


def std_temperatures(
    student_logits: Tensor, teacher_logits: Tensor, factor: float = 2.0, *, eps: float = 1e-7, unbiased: bool = False
) -> Temperatures:
    """T_t = f·std(z_t) + ε, T_s = f·std(z_s) + ε: logits of unit variance are divided by f.

    The student's standard deviation is differentiated. The official code has no ε (a constant row is NaN there)
    and divides by C − 1 (``unbiased``).

    Source: Chi et al., "NormKD: normalized logits for knowledge distillation", 2023, equation 6.
    """
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t_teacher = factor * row_std(teacher, unbiased=unbiased) + eps
        return Temperatures(t_teacher, factor * row_std(student, unbiased=unbiased) + eps)


def cooperative_temperatures(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0, *, centred: bool = True
) -> Temperatures:
    """T_s = 2T·m_s/(m_s + m_t), T_t = 2T·m_t/(m_s + m_t) with m the largest logit of a row.

    The gradient flows through the student's maximum into both temperatures, as in the official code.

    Args:
        centred: measure m from the mean of the row. The paper and its code take the raw maximum, with which a
            constant added to the logits changes the loss and temperatures can be negative: centring is **our
            deviation**. False gives the official numbers and refuses temperatures that are not positive.

    Source: Wei and Bai, "Dynamic temperature knowledge distillation", 2024, equations 10 and 11.
    """
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        m_s, m_t = (_largest(z, centred) for z in (student, teacher))
        total = m_s + m_t
        if centred:
            # Two constant rows have nothing to share out: both get T.
            none = total == 0
            safe = torch.where(none, 1.0, total)
            even = torch.full_like(total, 0.5)
            share_s, share_t = torch.where(none, even, m_s / safe), torch.where(none, even, m_t / safe)
            # One constant row would get the temperature 0.
            share_s, share_t = share_s.clamp(1e-3, 1 - 1e-3), share_t.clamp(1e-3, 1 - 1e-3)
        else:
            share_s, share_t = m_s / total, m_t / total
        return Temperatures(2 * temperature * share_t, 2 * temperature * share_s)


def target_temperatures(
    logits: Tensor, target: Tensor, target_temperature: float = 4.0, other_temperature: float = 2.0
) -> Tensor:
    """ATS: the label's logit is divided by one temperature, all others by another; ``[B, C]``.

    Soft labels: the geometric mean of the two by the share of the label. With two temperatures in a row, a constant
    added to the logits changes the loss.

    Source: Li et al., "Asymmetric temperature scaling makes larger networks teach well again", NeurIPS 2022.
    """
    if target.is_floating_point():
        if target.shape != logits.shape:
            raise ValueError(f"expected soft labels of shape {list(logits.shape)}, but got {list(target.shape)}")
        return other_temperature * (target_temperature / other_temperature) ** full_precision(target)
    classes = label_shares(target, logits).classes
    return torch.full_like(full_precision(logits), other_temperature).scatter(
        1, classes.unsqueeze(1), target_temperature
    )


def energy(logits: Tensor, temperature: float = 4.0) -> Tensor:
    """E = −T·log Σ_c exp(z_c/T) of each row ``[B]``; low for confident predictions.

    Source: Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, equation 4.
    """
    with no_autocast(logits):
        return -temperature * torch.logsumexp(full_precision(logits) / temperature, dim=1)


def _largest(logits: Tensor, centred: bool) -> Tensor:
    m = logits.amax(dim=1, keepdim=True)
    return m - logits.mean(dim=1, keepdim=True) if centred else m
