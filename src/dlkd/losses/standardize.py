"""Z-scores of logits: only the shape of a row counts, not its size."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.losses.precision import full_precision, no_autocast


def z_score(logits: Tensor, *, eps: float = 1e-7, unbiased: bool = False) -> Tensor:
    """(z − mean)/(std + ε) of each row, mean and standard deviation differentiated.

    Args:
        logits: ``[B, C]``.
        eps: keeps constant rows finite (they become 0).
        unbiased: divide the variance by C − 1, as the official code does; the paper divides by C.

    Returns:
        ``[B, C]``, fp32 (fp64 for fp64 logits).

    Source: Sun et al., "Logit standardization in knowledge distillation", CVPR 2024, algorithm 1.
    """
    with no_autocast(logits):
        centred = _centred(full_precision(logits))
        return centred / (_std(centred, unbiased) + eps)


def row_std(logits: Tensor, *, unbiased: bool = False) -> Tensor:
    """Standard deviation of each row, ``[B, 1]``; its gradient is 0, not NaN, where a row is constant."""
    return _std(_centred(logits), unbiased)


def _centred(z: Tensor) -> Tensor:
    return z - z.mean(dim=1, keepdim=True)


def _std(centred: Tensor, unbiased: bool) -> Tensor:
    # The gradient of the norm is 0 at 0.
    std: Tensor = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / max(centred.shape[1] - unbiased, 1) ** 0.5
    return std
