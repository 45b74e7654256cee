"""Figures of a classifier from its logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


def accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of samples whose label is among the ``k`` largest logits, in per cent.

    Args:
        logits: ``[N, C]``.
        labels: ``[N]``.
        k: 1 for the usual top-1.
    """
    best = logits.topk(k, dim=1).indices
    return 100 * (best == labels.unsqueeze(1)).any(dim=1).double().mean().item()


class Reliability(NamedTuple):
    """One bin of equal width of the confidence."""

    confidence: float
    accuracy: float
    size: int


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> list[Reliability]:
    """Mean confidence, accuracy (both in [0, 1]) and size of each bin that is not empty."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    correct = (predicted == labels).double()
    which = (confidence * bins).ceil().long().clamp(1, bins)
    return [
        Reliability(confidence[w].mean().item(), correct[w].mean().item(), int(w.sum()))
        for w in (which == b for b in range(1, bins + 1))
        if bool(w.any())
    ]


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Σ_b n_b/N·|accuracy_b − confidence_b| in per cent (Guo et al. 2017, equation 3)."""
    parts = reliability(logits, labels, bins)
    return 100 * sum(p.size * abs(p.accuracy - p.confidence) for p in parts) / labels.numel()


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """Mean over samples of Σ_c (p_c − y_c)², in [0, 2] (Brier 1950)."""
    p = torch.softmax(logits.double(), dim=1)
    return (p - functional.one_hot(labels, p.shape[1])).square().sum(dim=1).mean().item()


def agreement(logits: Tensor, teacher_logits: Tensor) -> float:
    """Share of samples on which student and teacher name the same class, in per cent."""
    return 100 * (logits.argmax(dim=1) == teacher_logits.argmax(dim=1)).double().mean().item()


def figures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy (top-1; top-5 where there are more than five classes), negative log-likelihood in nats,
    Brier score and calibration error. Accuracies and calibration error in per cent."""
    found = {"accuracy": accuracy(logits, labels)}
    if logits.shape[1] > 5:
        found["top5_accuracy"] = accuracy(logits, labels, k=5)
    found["nll"] = functional.cross_entropy(logits.double(), labels).item()
    found["brier"] = brier_score(logits, labels)
    found["ece"] = expected_calibration_error(logits, labels)
    return found


def by_level(
    logits: Tensor, labels: Tensor, level: Tensor, teacher_logits: Tensor, parts: int = 10
) -> list[dict[str, float]]:
    """Accuracy of student and teacher, and their agreement, in each tenth of the difficulty level ``[N]``."""
    tenth = (level * parts).long().clamp(0, parts - 1)
    return [
        {
            "decile": k + 1,
            "samples": int(chosen.sum()),
            "accuracy": accuracy(logits[chosen], labels[chosen]),
            "teacher_accuracy": accuracy(teacher_logits[chosen], labels[chosen]),
            "agreement": agreement(logits[chosen], teacher_logits[chosen]),
        }
        for k in range(parts)
        if bool((chosen := tenth == k).any())
    ]
