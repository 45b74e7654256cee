"""The algebra: transform × temperature × divergence × weight, plus a scale and a label term."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.score import DifficultyScore
from dlkd.features.method import FeatureMethod
from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.kl import kl_divergence
from dlkd.losses.precision import looks_at_values
from dlkd.losses.temperature import Temperatures

Scale = Literal["per_sample", "mean", "none", "teacher"]


class Signals(NamedTuple):
    """What the choices of a method may look at."""

    student_logits: Tensor
    """``[B, C]``, as the student gave them; the only ones with a gradient."""
    teacher_logits: Tensor
    """``[B, C]``."""
    target: Tensor
    """Class numbers ``[B]`` or soft labels ``[B, C]``."""
    level: Tensor | None = None
    """Difficulty level ``[B]`` in [0, 1], where one is known."""
    probe_logits: Tensor | None = None
    """``[B, C]`` of the pruned teacher, where the method asks for them; the mean over several."""
    strong: bool = False
    """Are these the strongly augmented views of a weak/strong pair?"""
    labelled: Tensor | None = None
    """``[B]`` in [0, 1]: how much of each target counts, of soft labels the sum of the row; 0 for an image without a
    label, whose target is −1. None where all count in full."""
    student_features: tuple[Tensor, ...] = ()
    """Of the layers that are compared, where the method compares layers; with a gradient."""
    teacher_features: tuple[Tensor, ...] = ()
    """Of as many layers of the teacher."""
    positions: Tensor | None = None
    """``[B]``: where the samples stand in the training set, for a term that remembers them."""
    raw: tuple[Tensor, Tensor] | None = None
    """Logits of student and teacher before their z-scores; None where a method takes none."""


LabelTerm = Callable[[Signals], Tensor]
"""From the signals of a batch to the label term ``[B]``."""


class Divergence(NamedTuple):
    """How far the student is from the teacher."""

    per_sample: Tensor
    """``[B]``."""
    batch: Tensor | None = None
    """A scalar, only where the definition couples the batch; sample weights do not touch it."""


class TemperatureRule(Protocol):
    """How soft is this sample's lesson?"""

    def __call__(self, signals: Signals) -> Temperatures:
        """The pair of temperatures of a batch."""

    def mean_square(self, temperatures: Temperatures) -> Tensor:
        """Mean of T_t·T_s over the reference samples, or over the batch where there is no reference."""


def kl(signals: Signals, temperatures: Temperatures) -> Divergence:
    """:func:`dlkd.losses.kl_divergence` as a divergence."""
    return Divergence(kl_divergence(signals.student_logits, signals.teacher_logits, temperatures))


def label_cross_entropy(signals: Signals) -> Tensor:
    """:func:`dlkd.losses.cross_entropy` as a label term."""
    return cross_entropy(signals.student_logits, signals.target)


class LossParts(NamedTuple):
    """The loss of a batch and what it is made of."""

    total: Tensor
    """A scalar: w_label·mean(label) + w_kd·(mean(distillation) + batch part), the first mean over what is labelled."""
    label: Tensor
    """``[B]``: the label term, not weighted."""
    distillation: Tensor | None
    """``[B]``: weight·scale·divergence, not multiplied by w_kd."""
    temperature: Tensor | None
    """``[B]``: the student's temperature (its mean over the classes)."""
    level: Tensor | None
    """``[B]``: difficulty level, where one is known."""
    labelled: Tensor | None = None
    """``[B]``: that of the signals."""
    feature: Tensor | None = None
    """``[B]``: the feature term, not multiplied by w_feature; None for a method that compares no layers."""


class Composition(nn.Module):
    """w_label·mean_i CE_i + w_kd·( mean_i[ u_i·s_i·D_i ] + batch part ) + w_feature·mean_i F_i.

    Args:
        temperature: see :class:`TemperatureRule`; None for a method without a term of the teacher's logits.
        divergence: D, from signals and temperatures.
        transform: what happens to the logits before all else; the label term sees them as they are.
        weight: u ``[B]``; None is one.
        scale: s_i = T_t,i·T_s,i (``per_sample``; T² for equal temperatures), its mean over the reference
            (``mean``), T_t,i² (``teacher``), or 1 (``none``). A batch part gets the mean of s.
        label: the label term, from signals to ``[B]``; None is the cross-entropy.
        label_weight, kd_weight: w_label and w_kd, finite and not negative, one of them above 0.
        warmup_epochs: w_kd rises over so many epochs: in epoch e = 1, 2, … it is multiplied by min(e/warm-up, 1).
        two_views: is the loss the sum over a weak and a strong view of each image?
        uses_probe: do the choices look at ``probe_logits``?
        uses_labels: does the distillation term look at the target?
        takes_top_k: does the term make do with the largest logits of the teacher, the others being equal?
        per_sample: does the term of a sample depend on this sample alone?
        features: F, of inner layers; None for a method that compares none.
        feature_weight: w_feature, finite and not negative.
    """

    def __init__(
        self,
        temperature: TemperatureRule | None,
        *,
        divergence: Callable[[Signals, Temperatures], Divergence] = kl,
        transform: Callable[[Signals], Signals] | None = None,
        weight: Callable[[Signals, Temperatures], Tensor] | None = None,
        scale: Scale = "per_sample",
        label: LabelTerm | None = None,
        label_weight: float = 0.1,
        kd_weight: float = 0.9,
        warmup_epochs: float = 0.0,
        two_views: bool = False,
        uses_probe: bool = False,
        uses_labels: bool = False,
        takes_top_k: bool = False,
        per_sample: bool = False,
        features: FeatureMethod | None = None,
        feature_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if scale not in get_args(Scale):
            raise ValueError(f"expected scale to be one of {list(get_args(Scale))}, but got {scale!r}")
        weights = (("ce_weight", label_weight), ("kd_weight", kd_weight), ("feature_weight", feature_weight))
        for name, value in weights:
            if not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} to be finite and at least 0, but got {value}")
        taught = (kd_weight > 0 and temperature is not None) or (feature_weight > 0 and features is not None)
        if label_weight == 0 and not taught:
            raise ValueError("expected ce_weight or kd_weight above 0, else there is nothing to learn from")
        self.temperature, self.divergence, self.transform = temperature, divergence, transform
        self.weight, self.scale, self.label = weight, scale, label or label_cross_entropy
        self.label_weight, self.kd_weight = label_weight, kd_weight
        if not 0 <= warmup_epochs < float("inf"):
            raise ValueError(f"expected warmup_epochs to be finite and at least 0, but got {warmup_epochs}")
        self.warmup_epochs, self._warm = warmup_epochs, 1.0
        self.two_views, self.uses_probe, self.uses_labels = two_views, uses_probe, uses_labels
        self.takes_top_k, self.per_sample = takes_top_k, per_sample
        self.features, self.feature_weight = features, feature_weight

    def start_epoch(self, epoch: int) -> None:
        """Tell the method the epoch, counted from 0: for the warm-up, and for temperatures that have a curriculum."""
        self._warm = min((epoch + 1) / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        start = getattr(self.temperature, "start_epoch", None)
        if start is not None:
            start(epoch)

    @property
    def needs_teacher(self) -> bool:
        """Is there a distillation term at all?"""
        return self.temperature is not None or self.features is not None

    @property
    def level(self) -> DifficultyLevel | None:
        """How distances become levels; None for a method that needs no difficulty."""
        level = getattr(self.temperature, "level", None)
        return level if isinstance(level, DifficultyLevel) else None

    @property
    def score(self) -> DifficultyScore | None:
        """What difficulty is; None for a method that needs none."""
        score = getattr(self.temperature, "score", None)
        return score if isinstance(score, DifficultyScore) else None

    @property
    def needs_probe(self) -> bool:
        """Has a pruned copy of the teacher to be asked as well?"""
        return self.uses_probe or (self.score is not None and self.score.needs == "probe")

    def parts(self, signals: Signals) -> LossParts:
        """The loss and its parts; with ``label_weight`` 0 the labels do not enter the loss.

        Raises:
            ValueError: an image has no label, and more than the label term looks at it. Not seen under torch.compile.
        """
        self._check_labelled(signals.labelled)
        signals = _whole_targets(signals)
        label, label_mean = self._label_term(signals)
        feature = None
        if self.features is not None:
            feature = self.features(signals.student_features, signals.teacher_features)
        if self.temperature is None:
            total = self._with_feature(self.label_weight * label_mean, feature)
            return LossParts(total, label, None, None, signals.level, signals.labelled, feature)
        seen = signals if self.transform is None else self.transform(signals)
        temperatures = self.temperature(seen)
        divergence = self.divergence(seen, temperatures)
        scale = self._scale(temperatures)
        per_sample = scale * divergence.per_sample
        if self.weight is not None:
            per_sample = self.weight(seen, temperatures) * per_sample
        kd = per_sample.mean() if divergence.batch is None else per_sample.mean() + scale.mean() * divergence.batch
        total = (self.kd_weight * self._warm) * kd
        if self.label_weight:
            total = self.label_weight * label_mean + total
        total = self._with_feature(total, feature)
        mean_temperature = temperatures.student.mean(dim=1).expand(per_sample.shape[0])
        return LossParts(total, label, per_sample, mean_temperature, signals.level, signals.labelled, feature)

    def _check_labelled(self, labelled: Tensor | None) -> None:
        by_label = self.uses_labels or (self.score is not None and self.score.needs == "label")
        if labelled is None or not by_label or not looks_at_values():
            return
        if missing := int((labelled == 0).sum()):
            raise ValueError(
                f"expected a label of every image, but {missing} of {len(labelled)} have none: the distillation term "
                "of this method is a function of the label; use a method without, such as kd or dlkd"
            )

    def _with_feature(self, total: Tensor, feature: Tensor | None) -> Tensor:
        return total if feature is None else total + self.feature_weight * feature.mean()

    def _label_term(self, x: Signals) -> tuple[Tensor, Tensor]:
        """The label term ``[B]`` and its mean over what is labelled, Σ label / Σ share; 0 where nothing is."""
        label = self.label(x)
        if x.labelled is None:
            return label, label.mean()
        label = x.labelled * label
        return label, label.sum() / x.labelled.sum().clamp(min=torch.finfo(x.labelled.dtype).tiny)

    def _scale(self, t: Temperatures) -> Tensor:
        if self.scale == "none":
            return t.student.new_ones(())
        if self.scale == "teacher":
            return t.teacher.square().mean(dim=1)
        if self.scale == "mean":
            assert self.temperature is not None
            return self.temperature.mean_square(t)
        return (t.teacher * t.student).mean(dim=1)


def _whole_targets(x: Signals) -> Signals:
    """A whole label out of what counts of it: not every term is 0 where nothing does, nor linear in the label."""
    if x.labelled is None:
        return x
    if x.target.is_floating_point():
        tiny = torch.finfo(x.labelled.dtype).tiny
        return x._replace(target=x.target / x.labelled.unsqueeze(1).clamp(min=tiny))
    return x._replace(target=x.target.clamp(min=0))


def loss_dtype(logits: Tensor) -> torch.dtype:
    """Half precision is left behind before a temperature is formed: a float must stay that float."""
    return torch.promote_types(logits.dtype, torch.float32)
