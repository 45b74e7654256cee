"""From a difficulty level to the softmax temperature of a sample."""

from __future__ import annotations

import math

from torch import Tensor, nn


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
