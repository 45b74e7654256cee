"""A feature loss over several pairs of layers, with what is learnt beside the student."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlkd.features.layers import FeatureLoss, positions
from dlkd.losses.features import align_positions, attention_loss, fitnet_loss, rkd_loss
from dlkd.losses.precision import no_autocast

Shape = Sequence[int]


class Regressor(nn.Module):
    """Linear over the channels and batch norm: from the student's channels to the teacher's, at every position.

    It is a 1×1 convolution, written as a matrix product: the same for maps, tokens and vectors, and sound for any
    number of channels. The batch norm lets a large weight of the loss meet features of any scale. There is one between
    equal shapes too: the student's channels have an order of their own.

    Args:
        inputs, outputs: channels of student and teacher.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """``[B, P, inputs]`` → ``[B, P, outputs]``."""
        rows: Tensor = self.linear(features.flatten(0, 1).to(self.linear.weight.dtype))
        norm = self.norm
        if self.training and len(rows) == 1:  # one row has no variance
            rows = F.batch_norm(rows, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            rows = norm(rows)
        return rows.reshape(*features.shape[:2], -1)


def make_adapter(student_shape: Shape, teacher_shape: Shape) -> Regressor:
    """A regressor for two shapes without the batch, ``[D]``, ``[N, D]`` or ``[C, H, W]``, that may differ in kind.

    Raises:
        ValueError: another shape.
    """
    return Regressor(_channels(student_shape), _channels(teacher_shape))


def _channels(shape: Shape) -> int:
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise ValueError(f"expected the shape of features, [D], [N, D] or [C, H, W], but got {list(shape)}")
    return shape[0] if len(shape) == 3 else shape[-1]


class FeatureMethod(nn.Module):
    """The sum of one feature loss over pairs of layers, without a weight; the mean of its rows is the loss.

    - ``fitnet``: :func:`dlkd.losses.fitnet_loss` at the positions that both have
      (:func:`dlkd.losses.features.align_positions`), after a :class:`Regressor` for each pair;
    - ``at``: :func:`dlkd.losses.attention_loss`;
    - ``rkd``: :func:`dlkd.losses.rkd_loss`, its two weights inside.

    Args:
        loss: which.
        distance_weight, angle_weight: of rkd.

    Raises:
        ValueError: an unknown loss, or a weight that is negative or not finite.
    """

    def __init__(self, loss: FeatureLoss, *, distance_weight: float = 25.0, angle_weight: float = 50.0) -> None:
        super().__init__()
        if loss not in get_args(FeatureLoss):
            raise ValueError(f"expected loss to be one of {list(get_args(FeatureLoss))}, but got {loss!r}")
        for name, value in (("distance_weight", distance_weight), ("angle_weight", angle_weight)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} to be finite and at least 0, but got {value}")
        self.loss = loss
        self.distance_weight, self.angle_weight = distance_weight, angle_weight
        self.adapters = nn.ModuleList()

    def connect(self, student_shapes: Sequence[Shape], teacher_shapes: Sequence[Shape]) -> FeatureMethod:
        """Make the adapters for these layers, at random, in the place of earlier ones; returns self.

        Args:
            student_shapes, teacher_shapes: of the features without the batch, pair by pair.

        Raises:
            ValueError: numbers of layers that differ, or shapes from which the loss can learn nothing.
        """
        if len(student_shapes) != len(teacher_shapes) or not student_shapes:
            raise ValueError(
                "expected as many layers of the student as of the teacher, at least one, "
                f"but got {len(student_shapes)} and {len(teacher_shapes)}"
            )
        self.adapters = nn.ModuleList()
        for student, teacher in zip(student_shapes, teacher_shapes, strict=True):
            if self.loss == "at":
                _check_attention(student, teacher)
            if self.loss == "fitnet":
                self.adapters.append(make_adapter(student, teacher))
        return self

    def forward(self, student_features: Sequence[Tensor], teacher_features: Sequence[Tensor]) -> Tensor:
        """Features of the layers, pair by pair, each ``[B, D]``, ``[B, N, D]`` or ``[B, C, H, W]`` → rows ``[B]``.

        Raises:
            ValueError: no features, not as many of both, or for fitnet not those that :meth:`connect` was told of.
        """
        if len(student_features) != len(teacher_features) or not student_features:
            raise ValueError(
                f"expected features of as many layers of the student as of the teacher, but got {len(student_features)}"
                f" and {len(teacher_features)}"
            )
        if self.loss == "fitnet" and len(self.adapters) != len(student_features):
            raise ValueError(f"expected {len(self.adapters)} layers for fitnet; connect it to its layers first")
        pairs = zip(student_features, teacher_features, strict=True)
        return torch.stack([self._rows(k, s, t) for k, (s, t) in enumerate(pairs)]).sum(dim=0)

    def _rows(self, k: int, student: Tensor, teacher: Tensor) -> Tensor:
        if self.loss == "at":
            return attention_loss(student, teacher, reduction="none")
        if self.loss == "rkd":
            return rkd_loss(
                student,
                teacher,
                distance_weight=self.distance_weight,
                angle_weight=self.angle_weight,
                reduction="none",
            )
        with no_autocast(student):
            s, t = align_positions(student, teacher)
            return fitnet_loss(self.adapters[k](s), t, reduction="none")

    def extra_repr(self) -> str:
        return f"loss={self.loss!r}"


def _check_attention(student: Shape, teacher: Shape) -> None:
    for who, shape in (("student", student), ("teacher", teacher)):
        if positions(shape) < 2:
            raise ValueError(
                f"expected features with several positions for attention, but the {who}'s are {list(shape)}; "
                "take a layer before the pooling"
            )
