"""DLKD: the temperature of a sample follows its difficulty."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.difficulty.level import DifficultyLevel, LevelMode
from dlkd.difficulty.score import DifficultyScore, ScoreName
from dlkd.difficulty.temperature import DifficultyTemperature
from dlkd.losses.precision import looks_at_values
from dlkd.methods.composition import Composition, Scale, Signals
from dlkd.methods.temperatures import TemperatureByDifficulty


class DLKDLoss(Composition):
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
        distance_temperature: τ_d of the score.
        score: what difficulty is, see :class:`DifficultyScore`; ``distance`` between teacher and probe by default.
        shuffled: give each sample the temperature of another of its batch: a control.
    """

    temperature: TemperatureByDifficulty

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
        score: ScoreName = "distance",
        shuffled: bool = False,
    ) -> None:
        measured = DifficultyScore(score, distance_temperature)
        mapping = DifficultyTemperature(t_easy, t_hard, gamma)
        rule = TemperatureByDifficulty(mapping, DifficultyLevel(level, measured.bound), measured, shuffled=shuffled)
        super().__init__(rule, scale=scale, label_weight=ce_weight, kd_weight=kd_weight)

    @property
    def level(self) -> DifficultyLevel:
        """The mapping from difficulties to levels."""
        return self.temperature.level

    def calibrate(self, distances: Tensor) -> None:
        """Set the reference of the rank from difficulties ``[N]`` of training views, mixing included."""
        self.level.calibrate(distances)

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        target: Tensor | None,
        *,
        probe_logits: Tensor | None = None,
        distance: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            student_logits, teacher_logits: ``[B, C]``.
            target: class numbers ``[B]`` or soft labels ``[B, C]``; None for images without labels, which leaves
                the label term out.
            probe_logits: ``[B, C]``, or
            distance: ``[B]``, the difficulty computed before (:func:`probe_distance`), or
            level: ``[B]`` in [0, 1], such as the mean over an image's views; exactly one of the three. With a
                score that needs no probe all three may be left out.
        """
        given = sum(x is not None for x in (probe_logits, distance, level))
        if given > 1 or (given == 0 and self.temperature.score.needs == "probe"):
            raise ValueError("expected exactly one of probe_logits, distance and level")
        if level is None:
            if distance is None:
                distance = self.temperature.score(teacher_logits, probe_logits=probe_logits, target=target)
            if distance.shape != student_logits.shape[:1]:
                raise ValueError(f"expected distances of shape [{len(student_logits)}], but got {list(distance.shape)}")
            level = self.level(distance)
        elif level.shape != student_logits.shape[:1] or (
            looks_at_values() and not bool(((level >= 0) & (level <= 1)).all())
        ):
            raise ValueError(f"expected levels in [0, 1] of shape [{student_logits.shape[0]}]")
        signals = Signals(student_logits, teacher_logits, torch.zeros_like(student_logits), level)
        if target is None:
            return self.parts(signals._replace(labelled=student_logits.new_zeros(len(student_logits)))).total
        return self.parts(signals._replace(target=target)).total
