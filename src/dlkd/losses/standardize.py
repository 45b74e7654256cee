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
        z = full_precision(logits)
        centred = z - z.mean(dim=1, keepdim=True)
        return centred / (row_std(z, unbiased=unbiased) + eps)


def row_std(logits: Tensor, *, unbiased: bool = False) -> Tensor:
    """Standard deviation of each row, ``[B, 1]``; its gradient is 0, not NaN, where a row is constant."""
    centred = logits - logits.mean(dim=1, keepdim=True)
    # Scaled, so that logits of 1e30 or 1e-30 neither overflow nor vanish in the square.
    largest = centred.detach().abs().amax(dim=1, keepdim=True)
    dead = largest == 0
    scale = torch.where(dead, 1.0, largest)
    n = logits.shape[1] - int(unbiased)
    variance = (centred / scale).square().sum(dim=1, keepdim=True) / max(n, 1)
    return torch.where(dead, 0.0, torch.where(dead, 1.0, variance).sqrt() * scale)
