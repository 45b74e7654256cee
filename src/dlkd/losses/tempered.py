"""KL losses whose temperature is a rule, or whose samples are weighted: WSLD, TTM, WTTM, NormKD, DTKD, ATS,
Energy KD, EA-KD, LSKD. Each returns the distillation term alone."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.kl import check_pair, kd_loss, kl_divergence
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.reduction import Reduction, reduce
from dlkd.losses.rules import cooperative_temperatures, energy, std_temperatures, target_temperatures
from dlkd.losses.standardize import z_score
from dlkd.losses.temperature import Temperature, Temperatures, temperature_pair
from dlkd.losses.weights import entropy_weight, wsld_weight, wttm_weight


def lskd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 2.0,
    eps: float = 1e-7,
    unbiased: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """KD on z-scores: T²·KL at T of :func:`z_score` of both. T² is inside; the labels are not used."""
    student = z_score(student_logits, eps=eps, unbiased=unbiased)
    teacher = z_score(frozen(teacher_logits), eps=eps, unbiased=unbiased)
    return kd_loss(student, teacher, temperature=temperature, reduction=reduction)


def wsld_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    temperature: float = 4.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """w·T²·CE(p_t(T), p_s(T)) with :func:`wsld_weight`: a cross-entropy, not KL, as the paper and its code have it.

    T² is inside. The published weights of the whole term are 2.25 (CIFAR-100) and 2.5 (ImageNet).
    """
    rows = temperature**2 * soft_cross_entropy(student_logits, teacher_logits, temperature)
    return reduce(wsld_weight(student_logits, teacher_logits, target) * rows, reduction)


def ttm_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    exponent: float = 0.1,
    reduction: Reduction = "mean",
) -> Tensor:
    """KL(p_t^g/Σp_t^g || p_s(1)): the temperature 1/g on the teacher only. No factor T²; labels not used.

    Source: Zheng and Yang, "Knowledge distillation based on transformed teacher matching", ICLR 2024, equation 8.
    """
    return reduce(kl_divergence(student_logits, teacher_logits, _teacher_only(student_logits, exponent)), reduction)


def wttm_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    exponent: float = 0.2,
    reduction: Reduction = "mean",
) -> Tensor:
    """TTM with each sample weighted by :func:`wttm_weight`. No factor T²; labels not used."""
    rows = kl_divergence(student_logits, teacher_logits, _teacher_only(student_logits, exponent))
    return reduce(wttm_weight(teacher_logits, exponent) * rows, reduction)


def normkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    factor: float = 2.0,
    eps: float = 1e-7,
    unbiased: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """T_t²·KL with the temperatures of :func:`std_temperatures`. The teacher's T² of each sample is inside."""
    t = std_temperatures(student_logits, teacher_logits, factor, eps=eps, unbiased=unbiased)
    return reduce(t.teacher.squeeze(1).square() * kl_divergence(student_logits, teacher_logits, t), reduction)


def dtkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    alpha: float = 3.0,
    beta: float = 1.0,
    temperature: float = 4.0,
    centred: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T), with :func:`cooperative_temperatures`. All T² are inside."""
    t = cooperative_temperatures(student_logits, teacher_logits, temperature, centred=centred)
    rows = dtkd_divergence(student_logits, teacher_logits, t, alpha=alpha, beta=beta, temperature=temperature)
    return reduce(rows, reduction)


def dtkd_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperatures: Temperatures,
    *,
    alpha: float,
    beta: float,
    temperature: float,
) -> Tensor:
    """α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T) of each sample, ``[B]``, for given cooperative temperatures ``[B, 1]``."""
    square = (temperatures.student * temperatures.teacher).squeeze(1)
    own = square * kl_divergence(student_logits, teacher_logits, temperatures)
    plain = kd_loss(student_logits, teacher_logits, temperature=temperature, reduction="none")
    return alpha * own + beta * plain


def ats_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    target_temperature: float = 4.0,
    other_temperature: float = 2.0,
    student_temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """KL of the teacher under :func:`target_temperatures` to the student at its own temperature. No factor T²."""
    t = Temperatures(
        target_temperatures(teacher_logits, target, target_temperature, other_temperature),
        torch.full((1, 1), student_temperature, device=student_logits.device),
    )
    return reduce(kl_divergence(student_logits, teacher_logits, t), reduction)


def energy_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    low: float,
    high: float,
    t_easy: float = 6.0,
    t_middle: float = 4.0,
    t_hard: float = 2.0,
    energy_temperature: float = 4.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """T_i²·KL(T_i): T_easy below the energy ``low``, T_hard above ``high``, T_middle between. T_i² is inside.

    The abstract gives the confident samples (low energy) the high temperature, as here; the published code and all its
    configs do the opposite (2, 4, 6).

    Source: Kim et al., "Maximizing discrimination capability of knowledge distillation with energy function",
    Knowledge-Based Systems 296, 2024.
    """
    e = energy(frozen(teacher_logits), energy_temperature)
    t = torch.where(e < low, t_easy, torch.where(e > high, t_hard, t_middle))
    return kd_loss(student_logits, teacher_logits, temperature=t, reduction=reduction)


def ea_kd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 4.0,
    entropy_temperature: float = 3.0,
    bound: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """w·T²·KL(T) with :func:`entropy_weight`. T² is inside; labels not used."""
    weight = entropy_weight(student_logits, teacher_logits, entropy_temperature, bound=bound)
    return reduce(
        weight * kd_loss(student_logits, teacher_logits, temperature=temperature, reduction="none"), reduction
    )


def soft_cross_entropy(student_logits: Tensor, teacher_logits: Tensor, temperature: Temperature) -> Tensor:
    """−Σ_c p_t,c(T)·log p_s,c(T), ``[B]``: KL plus the teacher's entropy."""
    check_pair(student_logits, teacher_logits)
    with no_autocast(student_logits):
        student, teacher = full_precision(student_logits), full_precision(frozen(teacher_logits))
        t = temperature_pair(temperature, student)
        log_q = torch.log_softmax(student / t.student, dim=1)
        return -(torch.softmax(teacher / t.teacher, dim=1) * log_q).sum(dim=1)


def _teacher_only(logits: Tensor, exponent: float) -> Temperatures:
    if not 0 < exponent < float("inf"):
        raise ValueError(f"expected exponent to be positive and finite, but got {exponent}")
    return Temperatures(logits.new_full((1, 1), 1 / exponent, dtype=torch.float64), logits.new_ones(1, 1))
