"""From a difficulty level to the softmax temperature of a sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class StepTemperature(nn.Module):
    """Three temperatures: for the easiest samples, for the hardest, and for those between.

    Args:
        t_easy, t_middle, t_hard: the temperatures.
        easy_share, hard_share: shares of the reference that count as easy and as hard, together at most 1.

    Raises:
        ValueError: a temperature is not positive and finite, or the shares are none.
    """

    def __init__(
        self, t_easy: float, t_middle: float, t_hard: float, easy_share: float = 0.2, hard_share: float = 0.2
    ) -> None:
        super().__init__()
        for name, value in (("t_easy", t_easy), ("t_middle", t_middle), ("t_hard", t_hard)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"expected {name} to be positive and finite, but got {value}")
        if min(easy_share, hard_share) < 0 or not easy_share + hard_share <= 1:
            raise ValueError(f"expected easy_share and hard_share to be shares, but got {easy_share} and {hard_share}")
        self.t_easy, self.t_middle, self.t_hard = float(t_easy), float(t_middle), float(t_hard)
        self.easy_share, self.hard_share = easy_share, hard_share

    def forward(self, level: Tensor) -> Tensor:
        """Levels ``[B]`` in [0, 1] → temperatures ``[B]``."""
        t = torch.full_like(level, self.t_middle).masked_fill(level < self.easy_share, self.t_easy)
        return t.masked_fill(level > 1 - self.hard_share, self.t_hard)

    def extra_repr(self) -> str:
        return f"t_easy={self.t_easy}, t_middle={self.t_middle}, t_hard={self.t_hard}"


class DifficultyTemperature(nn.Module):
    """T = T_easy + (T_hard − T_easy)·ℓ^γ.

    T_easy < T_hard (default 2, 6): easy samples get sharp targets, hard ones soft targets, the literal
    reading of the abstract of DLKD. T_easy > T_hard is the opposite direction. Range, shape and
    direction are our choice until our own evidence settles them.

    Raises:
        ValueError: a temperature or γ is not positive and finite.
    """

    def __init__(self, t_easy: float = 2.0, t_hard: float = 6.0, gamma: float = 1.0) -> None:
        super().__init__()
        for name, value in (("t_easy", t_easy), ("t_hard", t_hard), ("gamma", gamma)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"expected {name} to be positive and finite, but got {value}")
        self.t_easy, self.t_hard, self.gamma = float(t_easy), float(t_hard), float(gamma)

    def forward(self, level: Tensor) -> Tensor:
        """Levels ``[B]`` in [0, 1] → temperatures ``[B]``."""
        return self.t_easy + (self.t_hard - self.t_easy) * level.pow(self.gamma)

    def extra_repr(self) -> str:
        return f"t_easy={self.t_easy}, t_hard={self.t_hard}, gamma={self.gamma}"
