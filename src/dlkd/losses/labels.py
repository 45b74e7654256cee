"""Hard and soft labels behind one view: which classes a sample is labelled with, and by what share."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.losses.precision import looks_at_values


class LabelShares(NamedTuple):
    """M pairs of a sample and one of its classes; hard labels have M = B and shares of one."""

    rows: Tensor | None
    """``[M]``: the sample of each pair; None where pair i is sample i."""
    classes: Tensor
    """``[M]``, int64."""
    shares: Tensor | None
    """``[M]``: share of the label; None where all are one."""

    def expand(self, values: Tensor) -> Tensor:
        """One row for each pair: ``[B, …]`` → ``[M, …]``."""
        if self.rows is None:
            return values
        return values.expand(len(self.rows), *values.shape[1:]) if values.shape[0] == 1 else values[self.rows]

    def gather(self, per_pair: Tensor, batch: int) -> Tensor:
        """Σ over the classes of a sample of share·value: ``[M]`` → ``[B]``."""
        if self.rows is None or self.shares is None:
            return per_pair
        return per_pair.new_zeros(batch).index_add(0, self.rows, self.shares.to(per_pair) * per_pair)


def label_shares(target: Tensor, logits: Tensor) -> LabelShares:
    """Pairs out of class numbers ``[B]`` or soft labels ``[B, C]``.

    A loss D(y) that is defined for one class y is carried over to soft labels as Σ_c y_c·D(c), as the
    cross-entropy is: for mixup, the mean of the losses of both labels by their shares.

    Raises:
        ValueError: another shape or type, or a class number outside ``[0, C)``.
    """
    batch, classes = logits.shape
    if target.is_floating_point():
        if target.shape != logits.shape:
            raise ValueError(f"expected soft labels of shape {list(logits.shape)}, but got {list(target.shape)}")
        rows, columns = target.nonzero(as_tuple=True)
        if not looks_at_values():
            torch._check(rows.shape[0] > 0)  # torch.compile cannot know that somebody is labelled at all
        return LabelShares(rows, columns, target[rows, columns])
    if target.shape != (batch,):
        raise ValueError(f"expected {batch} class numbers of shape [{batch}], but got {list(target.shape)}")
    check_range(target, classes)
    return LabelShares(None, target.long(), None)


def check_range(target: Tensor, classes: int) -> None:
    """Raise ValueError unless all class numbers are in ``[0, classes)``."""
    if not target.numel() or not looks_at_values():
        return
    least, most = (int(bound) for bound in torch.aminmax(target))
    if not 0 <= least <= most < classes:
        raise ValueError(f"expected labels between 0 and {classes - 1}, but got {least} to {most}")
