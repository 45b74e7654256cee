"""The temperature rules of the named methods."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.score import DifficultyScore
from dlkd.losses.precision import no_autocast
from dlkd.losses.rules import cooperative_temperatures, std_temperatures, target_temperatures
from dlkd.losses.temperature import Temperatures
from dlkd.methods.composition import Signals, loss_dtype


class BatchRule(nn.Module):
    """A rule that knows no reference: its mean of T_t·T_s is that of the batch."""

    def forward(self, signals: Signals) -> Temperatures:
        """The pair of temperatures of a batch."""
        raise NotImplementedError

    def mean_square(self, temperatures: Temperatures) -> Tensor:
        """Mean of T_t·T_s."""
        return (temperatures.teacher * temperatures.student).mean()


class FixedTemperature(BatchRule):
    """One temperature for all samples."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)

    def forward(self, signals: Signals) -> Temperatures:
        """The same for teacher and student."""
        t = constant(self.temperature, signals.student_logits)
        return Temperatures(t, t)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class TeacherTemperature(BatchRule):
    """TTM: 1/g for the teacher, 1 for the student."""

    def __init__(self, exponent: float) -> None:
        super().__init__()
        self.exponent = positive("exponent", exponent)

    def forward(self, signals: Signals) -> Temperatures:
        """The student's is 1."""
        like = signals.student_logits
        return Temperatures(constant(1 / self.exponent, like), constant(1.0, like))


class StdTemperature(BatchRule):
    """NormKD: a multiple of the standard deviation of each row; see :func:`std_temperatures`."""

    def __init__(self, factor: float, eps: float, unbiased: bool) -> None:
        super().__init__()
        self.factor, self.eps, self.unbiased = positive("factor", factor), eps, unbiased

    def forward(self, signals: Signals) -> Temperatures:
        """Each of its own logits."""
        s, t = signals.student_logits, signals.teacher_logits
        return std_temperatures(s, t, self.factor, eps=self.eps, unbiased=self.unbiased)


class CooperativeTemperature(BatchRule):
    """DTKD: teacher and student share 2T by their largest logits; see :func:`cooperative_temperatures`."""

    def __init__(self, temperature: float, centred: bool) -> None:
        super().__init__()
        self.temperature, self.centred = positive("temperature", temperature), centred

    def forward(self, signals: Signals) -> Temperatures:
        """The more certain of the two gets the higher one."""
        s, t = signals.student_logits, signals.teacher_logits
        return cooperative_temperatures(s, t, self.temperature, centred=self.centred)


class TargetTemperature(BatchRule):
    """ATS: one for the label's logit of the teacher, one for its others, one for the student."""

    def __init__(self, target_temperature: float, other_temperature: float, student_temperature: float) -> None:
        super().__init__()
        self.target = positive("target_temperature", target_temperature)
        self.other = positive("other_temperature", other_temperature)
        self.student = positive("student_temperature", student_temperature)

    def forward(self, signals: Signals) -> Temperatures:
        """``[B, C]`` for the teacher."""
        teacher = target_temperatures(signals.teacher_logits, signals.target, self.target, self.other)
        return Temperatures(teacher, constant(self.student, signals.student_logits))


class LearnedTemperature(BatchRule):
    """CTKD: T = 1 + 20·sigmoid(θ), learned against the student.

    The gradient of θ is multiplied by −λ, λ going from 0 to 1 by a cosine over the first epochs: the temperature
    makes the lesson harder while the student makes it easier. θ starts at 1, so T at 15.6.

    Args:
        ramp_epochs: 10 for CIFAR-100, 5 for ImageNet.

    Source: Li et al., "Curriculum temperature for knowledge distillation", AAAI 2023, equations 5 to 8.
    """

    def __init__(self, ramp_epochs: float) -> None:
        super().__init__()
        self.ramp_epochs = positive("ramp_epochs", ramp_epochs)
        self.theta = nn.Parameter(torch.ones(1, 1))
        self.strength = 0.0

    def start_epoch(self, epoch: float) -> None:
        """λ of the epoch, counted from 0; the published code counts from 1."""
        self.strength = (1 - math.cos(math.pi * min(epoch + 1, self.ramp_epochs) / self.ramp_epochs)) / 2

    def forward(self, signals: Signals) -> Temperatures:
        """The same for teacher and student."""
        theta = self.logit(signals).to(loss_dtype(signals.student_logits))
        t = 1 + 20 * torch.sigmoid(reverse_gradient(theta, self.strength))
        return Temperatures(t, t)

    def logit(self, signals: Signals) -> Tensor:
        """θ: ``[1, 1]``."""
        return self.theta


class InstanceTemperature(LearnedTemperature):
    """CTKD for each sample: θ_i is a network of two layers on the predictions of teacher and student.

    Its last layer starts at the weights 0 and the bias 1, so that every sample starts at the global T of 15.6. The
    student learns through the loss alone, not through what it tells this network.

    Args:
        ramp_epochs: see :class:`LearnedTemperature`.
        classes: of the predictions.

    Raises:
        ValueError: the number of classes is not known.
    """

    def __init__(self, ramp_epochs: float, classes: int | None, hidden: int = 64) -> None:
        super().__init__(ramp_epochs)
        if classes is None:
            raise ValueError("expected the number of classes for per_instance, but got none; give make_method classes")
        del self.theta
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.ones_(last.bias)
        self.network = nn.Sequential(nn.Linear(2 * classes, hidden), nn.ReLU(), last)

    def logit(self, signals: Signals) -> Tensor:
        """θ_i: ``[B, 1]``."""
        with no_autocast(signals.student_logits):
            both = (signals.teacher_logits, signals.student_logits.detach())
            predictions = torch.cat([torch.softmax(z.float(), dim=1) for z in both], dim=1)
            theta: Tensor = self.network(predictions)
            return theta


class TemperatureByDifficulty(nn.Module):
    """The same temperature for teacher and student, from the level of the sample.

    Args:
        mapping: levels ``[B]`` → temperatures ``[B]``.
        level: from a difficulty to its level.
        score: what difficulty is.
        shuffled: give each sample the temperature of another of its batch, by a permutation drawn from torch's default
            generator, which several processes have to share (``dlkd.train.group``): a control for what difficulty adds
            to temperatures that merely differ.
    """

    def __init__(
        self, mapping: nn.Module, level: DifficultyLevel, score: DifficultyScore, *, shuffled: bool = False
    ) -> None:
        super().__init__()
        self.mapping, self.level, self.score, self.shuffled = mapping, level, score, shuffled

    def forward(self, signals: Signals) -> Temperatures:
        """``[B, 1]`` for both."""
        if signals.level is None:
            raise ValueError("expected a difficulty level for this method, but got none")
        # In the dtype of the loss before T is formed: T_easy = T_hard must be that float exactly.
        t: Tensor = self.mapping(signals.level.to(loss_dtype(signals.student_logits))).unsqueeze(1)
        if self.shuffled:
            t = t[torch.randperm(len(t)).to(t.device)]
        return Temperatures(t, t)

    def mean_square(self, temperatures: Temperatures) -> Tensor:
        """Mean of T² over the reference distances; over the batch where there is none."""
        t = temperatures.student
        if self.level.calibrated and self.level.mode != "batch":
            t = self.mapping(self.level(self.level.quantiles)).to(t)
        return t.square().mean()


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse_gradient(x: Tensor, strength: float) -> Tensor:
    """The identity, whose gradient is multiplied by −strength."""
    result: Tensor = _Reverse.apply(x, strength)
    return result


def constant(value: float, like: Tensor) -> Tensor:
    """``[1, 1]`` in the dtype of the loss."""
    return like.new_full((1, 1), value, dtype=loss_dtype(like))


def positive(name: str, value: float) -> float:
    """The value as a float; ValueError where it is no temperature."""
    if not 0 < value < math.inf:
        raise ValueError(f"expected {name} to be positive and finite, but got {value}")
    return float(value)
