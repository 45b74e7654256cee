"""Figures of a classifier from its logits.

torchmetrics has some of them. Ours are kept, and tested against it where both mean the same: it works in the precision
of the logits, not in fp64; its calibration bins are closed below, not above as published; its macro accuracy counts a
class without images as 0 once it is named; and it would add seconds to every start.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dlkd.evaluate.selective import aurc, excess_aurc
from dlkd.losses import kl_divergence

NAMES = {
    "accuracy": "accuracy, %",
    "balanced_accuracy": "balanced accuracy, %",
    "top5_accuracy": "top-5 accuracy, %",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "ece": "calibration error, %",
    "aurc": "area under risk–coverage, %",
    "excess_aurc": "of it above the best order, %",
}
"""What :func:`figures` finds, for people."""


def accuracy(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Share of samples whose label is among the ``k`` largest logits, in per cent.

    Args:
        logits: ``[N, C]``.
        labels: ``[N]``.
        k: 1 for the usual top-1.
    """
    best = logits.topk(k, dim=1).indices
    return 100 * (best == labels.unsqueeze(1)).any(dim=1).double().mean().item()


def balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Mean over the classes that occur of the share of their samples that is named right, in per cent."""
    right = (logits.argmax(dim=1) == labels).double()
    sizes = torch.bincount(labels)
    occurs = sizes > 0
    return 100 * (torch.bincount(labels, right)[occurs] / sizes[occurs]).mean().item()


class Reliability(NamedTuple):
    """One bin of equal width of the confidence."""

    confidence: float
    accuracy: float
    size: int


def bin_of(confidence: Tensor, bins: int = 15) -> Tensor:
    """The bins 1 to ``bins`` of equal width, closed above, of confidences ``[N]`` in [0, 1]."""
    return (confidence * bins).ceil().long().clamp(1, bins)


def tenth_of(level: Tensor, parts: int = 10) -> Tensor:
    """The parts 1 to ``parts`` of equal width, closed below, of difficulty levels ``[N]`` in [0, 1]; in fp32, as levels
    are measured, so that a level belongs to the same one wherever it was kept."""
    return (level.float() * parts).long().clamp(0, parts - 1) + 1


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> list[Reliability]:
    """Mean confidence, accuracy (both in [0, 1]) and size of each bin that is not empty."""
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    correct = (predicted == labels).double()
    which = bin_of(confidence, bins)
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


def kl_to_teacher(logits: Tensor, teacher_logits: Tensor) -> float:
    """Mean over samples of KL(softmax(z_teacher) || softmax(z_student)) in nats, at temperature 1."""
    return kl_divergence(logits.double(), teacher_logits.double(), 1.0).mean().item()


def figures(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy (top-1, balanced; top-5 where there are more than five classes), negative log-likelihood in nats,
    Brier score, calibration error, and the areas of :func:`aurc` and :func:`excess_aurc`. Accuracies, calibration
    error and areas in per cent."""
    found = {"accuracy": accuracy(logits, labels), "balanced_accuracy": balanced_accuracy(logits, labels)}
    if logits.shape[1] > 5:
        found["top5_accuracy"] = accuracy(logits, labels, k=5)
    found["nll"] = functional.cross_entropy(logits.double(), labels).item()
    found["brier"] = brier_score(logits, labels)
    found["ece"] = expected_calibration_error(logits, labels)
    found["aurc"] = aurc(logits, labels)
    found["excess_aurc"] = excess_aurc(logits, labels)
    return found


def by_level(
    logits: Tensor, labels: Tensor, level: Tensor, teacher_logits: Tensor, parts: int = 10
) -> list[dict[str, float]]:
    """Accuracy of student and teacher, and their agreement, in each tenth of the difficulty level ``[N]``."""
    tenth = tenth_of(level, parts)
    return [
        {
            "decile": k,
            "samples": int(chosen.sum()),
            "accuracy": accuracy(logits[chosen], labels[chosen]),
            "teacher_accuracy": accuracy(teacher_logits[chosen], labels[chosen]),
            "agreement": agreement(logits[chosen], teacher_logits[chosen]),
        }
        for k in range(1, parts + 1)
        if bool((chosen := tenth == k).any())
    ]
