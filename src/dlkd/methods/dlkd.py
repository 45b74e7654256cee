"""DLKD as one drop-in criterion."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlkd.difficulty.distance import probe_distance
from dlkd.difficulty.level import DifficultyLevel, LevelMode
from dlkd.difficulty.temperature import DifficultyTemperature
from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.kl import kl_divergence

Scale = Literal["per_sample", "mean", "none"]


class DLKDLoss(nn.Module):
    """w_ce·CE(z_s, y) + w_kd·mean_i[ s_i·KL(softmax(z_t/T_i) || softmax(z_s/T_i)) ].

    T_i follows the difficulty of the sample (:class:`DifficultyLevel`, :class:`DifficultyTemperature`).
    With ``t_easy == t_hard`` the second term is :func:`dlkd.losses.kd_loss` at that temperature, bit
    for bit. Difficulty by the distance between teacher and pruned teacher is the idea of DLKD
    (Neurocomputing 2024, 10.1016/j.neucom.2024.128375); mapping, direction, scale and weights are ours.

    Args:
        t_easy, t_hard, gamma: see :class:`DifficultyTemperature`.
        level: ``rank``, ``absolute`` or ``batch``, see :class:`DifficultyLevel`.
        scale: s_i = T_i² (``per_sample``), the mean of T² over the reference distances (``mean``; over
            the batch where there is no reference), or 1 (``none``).
        ce_weight, kd_weight: w_ce and w_kd, not negative.
        distance_temperature: τ_d of :func:`probe_distance`.
    """

    def __init__(
        self,
        t_easy: float = 2.0,
        t_hard: float = 6.0,
        gamma: float = 1.0,
        level: LevelMode = "rank",
        scale: Scale = "per_sample",
        ce_weight: float = 0.1,
        kd_weight: float = 0.9,
        *,
        distance_temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise ValueError(f"expected scale to be one of {list(get_args(Scale))}, but got {scale!r}")
        for name, value in (("ce_weight", ce_weight), ("kd_weight", kd_weight)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} to be finite and at least 0, but got {value}")
        if not 0 < distance_temperature < float("inf"):
            raise ValueError(f"expected distance_temperature to be positive, but got {distance_temperature}")
        self.level = DifficultyLevel(level)
        self.temperature = DifficultyTemperature(t_easy, t_hard, gamma)
        self.scale = scale
        self.ce_weight, self.kd_weight = ce_weight, kd_weight
        self.distance_temperature = distance_temperature

    def calibrate(self, distances: Tensor) -> None:
        """Set the reference of the rank from distances ``[N]`` of training views, mixing included."""
        self.level.calibrate(distances)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor,
        *,
        probe_logits: Tensor | None = None,
        distance: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            student_logits, teacher_logits: ``[B, C]``.
            target: class numbers ``[B]`` or soft labels ``[B, C]``.
            probe_logits: ``[B, C]``, or
            distance: ``[B]``, computed before (:func:`probe_distance`); exactly one of the two.
        """
        if (probe_logits is None) == (distance is None):
            raise ValueError("expected exactly one of probe_logits and distance")
        if distance is None:
            assert probe_logits is not None
            distance = probe_distance(teacher_logits, probe_logits, temperature=self.distance_temperature)
        # In the dtype of the loss before T is formed: T_easy = T_hard must be that float exactly.
        dtype = torch.promote_types(student_logits.dtype, torch.float32)
        t = self.temperature(self.level(distance).to(dtype))
        divergence = kl_divergence(student_logits, teacher_logits, t)
        kd = (self._scale(t) * divergence).mean()
        if self.ce_weight == 0:
            return self.kd_weight * kd
        return self.ce_weight * cross_entropy(student_logits, target).mean() + self.kd_weight * kd

    def _scale(self, t: Tensor) -> Tensor:
        if self.scale == "per_sample":
            return t.square()
        if self.scale == "none":
            return torch.ones_like(t)
        if self.level.calibrated and self.level.mode != "batch":
            t = self.temperature(self.level(self.level.quantiles)).to(t)
        return t.square().mean()
