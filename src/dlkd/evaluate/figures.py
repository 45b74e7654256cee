"""Accuracy and calibration from logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


@torch.no_grad()
def logits_of(model: nn.Module, images: Tensor, batch_size: int = 512) -> Tensor:
    """Logits ``[N, C]`` of un-augmented images in eval mode; the model's mode is put back."""
    training = model.training
    model.eval()
    logits = torch.cat([model(part) for part in torch.split(images, batch_size)])
    model.train(training)
    return logits


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Top-1 accuracy in per cent."""
    return 100 * (logits.argmax(dim=1) == labels).double().mean().item()


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
