"""What a classifier gains by keeping silent where it is not sure: the area under its risk–coverage curve."""

from __future__ import annotations

import torch
from torch import Tensor


def aurc(logits: Tensor, labels: Tensor) -> float:
    """1/N·Σ_i r_i in per cent, where r_i is the share of errors among the i samples of highest confidence.

    Confidence is the largest probability. Samples of equal confidence have no order: the mean over all orders of them
    is taken, which is the area with each one's error replaced by the mean error of those it ties with.

    Args:
        logits: ``[N, C]``.
        labels: ``[N]``.

    Source: Geifman, Uziel, El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019,
    section 2.
    """
    confidence, error = _judged(logits, labels)
    return 100 * _area(confidence, error)


def excess_aurc(logits: Tensor, labels: Tensor) -> float:
    """E-AURC: :func:`aurc` less that of an order in which all errors come last, in per cent.

    Among networks of one accuracy it says how well confidence tells right from wrong; 0 is perfect. The best order is
    computed exactly, not by the paper's approximation r + (1 − r)·ln(1 − r).
    """
    confidence, error = _judged(logits, labels)
    return 100 * (_area(confidence, error) - _area(-error, error))


def _judged(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    confidence, predicted = torch.softmax(logits.double(), dim=1).max(dim=1)
    return confidence, (predicted != labels).double()


def _area(confidence: Tensor, error: Tensor) -> float:
    order = confidence.argsort(descending=True)
    _, tie, size = confidence[order].unique_consecutive(return_inverse=True, return_counts=True)
    of_tie = torch.zeros(len(size), dtype=error.dtype).index_add(0, tie, error[order]) / size
    risk = of_tie[tie].cumsum(0) / torch.arange(1, len(error) + 1)
    return float(risk.mean())
