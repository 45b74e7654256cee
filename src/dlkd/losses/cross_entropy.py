"""Cross-entropy to hard or soft labels, per sample."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from dlkd.losses.labels import check_range
from dlkd.losses.precision import full_precision, no_autocast


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """−Σ_c y_c·log softmax(z)_c of each sample, in nats.

    Args:
        logits: ``[B, C]``.
        target: class numbers ``[B]`` (integer), or soft labels ``[B, C]`` whose rows sum to one.

    Returns:
        ``[B]``, fp32 (fp64 for fp64 logits).

    Raises:
        ValueError: the target has another shape or type, or a class number is outside ``[0, C)``.
    """
    if logits.ndim != 2:
        raise ValueError(f"expected logits to have shape [batch, classes], but got {list(logits.shape)}")
    with no_autocast(logits):
        z = full_precision(logits)
        if target.is_floating_point():
            if target.shape != logits.shape:
                raise ValueError(f"expected soft labels of shape {list(logits.shape)}, but got {list(target.shape)}")
            return functional.cross_entropy(z, target.to(z), reduction="none")
        if target.shape != logits.shape[:1]:
            raise ValueError(
                f"expected {logits.shape[0]} class numbers of shape [{logits.shape[0]}], but got {list(target.shape)}"
            )
        check_range(target, logits.shape[1])
        return functional.cross_entropy(z, target.long(), reduction="none")
