"""From one value for each sample to the loss."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

Reduction = Literal["mean", "none"]


def reduce(per_sample: Tensor, reduction: Reduction, batch: Tensor | None = None) -> Tensor:
    """The mean of ``[B]``, or ``[B]`` itself; a batch part is spread evenly over the rows.

    Raises:
        ValueError: an unknown reduction.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(f"expected reduction to be 'mean' or 'none', but got {reduction!r}")
    rows = per_sample if batch is None else per_sample + batch
    return rows.mean() if reduction == "mean" else rows
