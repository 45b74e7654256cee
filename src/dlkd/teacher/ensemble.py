"""Several teachers as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlkd.losses.precision import full_precision, no_autocast

Average = Literal["logits", "probabilities"]


class AveragedTeacher(nn.Module):
    """The mean of several teachers, as one module: what prunes, folds or moves a teacher does so to all of them.

    - ``logits``: z = 1/K·Σ_k z_k; the softmax of it is the normalised geometric mean of their predictions.
    - ``probabilities``: z = log(1/K·Σ_k softmax(z_k)), so the softmax of it is the mean of their predictions; taken as
      logsumexp_k(log softmax(z_k)) − log K. Each row has a log-sum-exp of 0: a constant of a teacher's logits is lost.

    A probe of it is a pruned copy of the whole: ranking all weights together prunes teachers of smaller weights more.

    Args:
        members: images → logits ``[B, C]``, all of the same classes.
        input_formats: one for each member, from images in [0, 1] to what it wants to see; None, as for all of them by
            default, leaves images as they are.
        average: see above.

    Raises:
        ValueError: no member, another number of formats, or an unknown average.
    """

    def __init__(
        self,
        members: Sequence[nn.Module],
        input_formats: Sequence[Callable[[Tensor], Tensor] | None] | None = None,
        average: Average = "logits",
    ) -> None:
        super().__init__()
        formats = [None] * len(members) if input_formats is None else list(input_formats)
        if not members or len(formats) != len(members):
            raise ValueError(
                f"expected at least one teacher and an input format for each, but got {len(members)} and {len(formats)}"
            )
        if average not in get_args(Average):
            raise ValueError(f"expected average to be one of {list(get_args(Average))}, but got {average!r}")
        self.members, self.input_formats, self.average = nn.ModuleList(members), tuple(formats), average

    def forward(self, images: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` in [0, 1] → logits ``[B, C]``, at least fp32.

        Raises:
            ValueError: members that return something else than logits of one shape.
        """
        outputs = [
            member(images if form is None else form(images))
            for member, form in zip(self.members, self.input_formats, strict=True)
        ]
        shapes = [list(x.shape) if isinstance(x, Tensor) else type(x).__name__ for x in outputs]
        if len(shapes[0]) != 2 or any(shape != shapes[0] for shape in shapes):
            raise ValueError(f"expected the teachers to return logits of one shape [B, classes], but got {shapes}")
        with no_autocast(images):
            logits = torch.stack([full_precision(x) for x in outputs])
            if self.average == "logits":
                return logits.mean(dim=0)
            return torch.logsumexp(torch.log_softmax(logits, dim=2), dim=0) - math.log(len(outputs))

    def extra_repr(self) -> str:
        return f"average={self.average!r}"
