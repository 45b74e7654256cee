"""A temperature is a pair, teacher and student, each broadcastable to the logits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.losses.precision import looks_at_values


class Temperatures(NamedTuple):
    """What the logits are divided by before the softmax.

    Each is ``[1, 1]``, ``[B, 1]`` (one for each sample) or ``[B, C]`` (one for each logit).
    """

    teacher: Tensor
    student: Tensor


Temperature = float | Tensor | Temperatures
"""One number, ``[B]``, or a pair."""


def temperature_pair(temperature: Temperature, like: Tensor) -> Temperatures:
    """Bring any temperature to a pair broadcastable to ``like`` ``[B, C]``: one code path for all.

    A tensor keeps its gradient, alone as in a pair.

    Raises:
        ValueError: a shape that does not fit, or a temperature that is not positive and finite.
    """
    if isinstance(temperature, Temperatures):
        teacher, student = temperature
        checked = _checked(student, like)
        return Temperatures(checked if teacher is student else _checked(teacher, like), checked)
    if isinstance(temperature, int | float):
        if not 0 < temperature < math.inf:  # in Python: a look at a tensor would wait for the device
            raise ValueError(f"expected every temperature to be positive and finite, but got [{temperature}]")
        one = like.new_full((1, 1), temperature)
        return Temperatures(one, one)
    t = torch.as_tensor(temperature, dtype=like.dtype, device=like.device)
    if t.ndim > 1 or (t.ndim == 1 and t.shape[0] != like.shape[0]):
        raise ValueError(f"expected temperature to be a float or of shape [{like.shape[0]}], but got {list(t.shape)}")
    column = _checked(t.expand(like.shape[0]).unsqueeze(1), like)
    return Temperatures(column, column)


def _checked(t: Tensor, like: Tensor) -> Tensor:
    t = t.to(like)
    if t.ndim != 2 or any(a not in (1, b) for a, b in zip(t.shape, like.shape, strict=True)):
        raise ValueError(f"expected temperatures broadcastable to {list(like.shape)}, but got {list(t.shape)}")
    if looks_at_values() and t.numel():
        least, most = torch.aminmax(t.detach())  # one pass; NaN comes through both
        if 0 < least.item() and most.item() < math.inf:
            return t
        bad = t[~((t > 0) & t.isfinite())].flatten()[:3].tolist()
        raise ValueError(f"expected every temperature to be positive and finite, but got {bad}")
    return t
