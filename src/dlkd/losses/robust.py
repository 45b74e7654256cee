"""For labels that may be wrong: GCE, SCE, early-learning regularisation, and trust by teacher and difficulty."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.labels import label_shares
from dlkd.losses.precision import frozen, full_precision, no_autocast

LOG_ZERO = math.log(1e-4)
"""log 0 of a label in SCE, as in its code."""


def generalized_cross_entropy(logits: Tensor, target: Tensor, *, q: float = 0.7) -> Tensor:
    """(1 − p_y^q)/q of each sample: cross-entropy for q → 0, mean absolute error for q = 1.

    Args:
        logits: ``[B, C]``.
        target: class numbers ``[B]``, or soft labels ``[B, C]``: the mean over the labels by their shares.
        q: in (0, 1].

    Returns:
        ``[B]``, in [0, 1/q].

    Source: Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
    NeurIPS 2018, equation 6; q = 0.7 throughout.
    """
    if not 0 < q <= 1:
        raise ValueError(f"expected q to be in (0, 1], but got {q}")
    with no_autocast(logits):
        log_p = torch.log_softmax(full_precision(logits), dim=1)
        return (_dense(target, log_p) * -torch.expm1(q * log_p)).sum(dim=1) / q


def symmetric_cross_entropy(
    logits: Tensor, target: Tensor, *, alpha: float = 6.0, beta: float = 0.1, log_zero: float = LOG_ZERO
) -> Tensor:
    """α·CE + β·RCE, the reverse cross-entropy RCE = −Σ_c p_c·log y_c with log 0 set to ``log_zero``.

    For a class number RCE is −log_zero·(1 − p_y). α and β are those of the authors' command for CIFAR-100 (0.1 and 1
    for CIFAR-10): ``train_models.py`` of YisenWang/symmetric_cross_entropy_for_noisy_labels, 235d93b.

    Returns:
        ``[B]``.

    Source: Wang et al., "Symmetric cross entropy for robust learning with noisy labels", ICCV 2019, equation 7; the
    value of log 0 is that of its code (log 1e-4).
    """
    with no_autocast(logits):
        p = torch.softmax(full_precision(logits), dim=1)
        log_y = _dense(target, p).log().clamp(min=log_zero)
        return alpha * cross_entropy(logits, target) - beta * (p * log_y).sum(dim=1)


def early_learning_regularizer(logits: Tensor, memory: Tensor) -> Tensor:
    """log(1 − ⟨m, p⟩) of each sample: holds predictions at what they were before wrong labels were learnt by heart.

    Args:
        logits: ``[B, C]``.
        memory: ``[B, C]``, the running mean m of earlier predictions of the same images; without gradient.

    Returns:
        ``[B]``, not positive; p is kept in [1e-4, 1 − 1e-4] as in the published code.

    Source: Liu et al., "Early-learning regularization prevents memorization of noisy labels", NeurIPS 2020, equation 6.
    """
    with no_autocast(logits):
        p = torch.softmax(full_precision(logits), dim=1).clamp(1e-4, 1 - 1e-4)
        return torch.log(1 - (frozen(memory).to(p) * p).sum(dim=1))


@torch.no_grad()
def label_trust(teacher_logits: Tensor, target: Tensor, level: Tensor | None = None) -> Tensor:
    """w = 1 − (1 − ℓ)·(max p_t − ⟨y, p_t⟩): low where the teacher is sure of another class and the sample is easy.

    Where the teacher prefers the given label w is 1, and so it is for the hardest samples, on which the teacher's
    word counts for little. Our own weight, not the paper's. A teacher that was trained on clean labels is an oracle.

    Args:
        teacher_logits: ``[B, C]``.
        target: class numbers ``[B]`` or soft labels ``[B, C]``.
        level: difficulty ``[B]`` in [0, 1]; None counts all samples as easy.

    Returns:
        ``[B]`` in [0, 1].
    """
    with no_autocast(teacher_logits):
        p = torch.softmax(full_precision(frozen(teacher_logits)), dim=1)
        contradiction = p.amax(dim=1) - (_dense(target, p) * p).sum(dim=1)
        easy = 1.0 if level is None else 1 - level.to(p)
        return 1 - easy * contradiction


def _dense(target: Tensor, like: Tensor) -> Tensor:
    """The labels as shares ``[B, C]``."""
    pairs = label_shares(target, like)
    if pairs.rows is not None:
        return target.to(like)
    return torch.zeros_like(like).scatter(1, pairs.classes.unsqueeze(1), 1.0)
