"""What the teacher says about a batch of views, asked live."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dlkd.data import Batch, Samples, plain_batches
from dlkd.difficulty import DifficultyScore, mean_distance
from dlkd.features import FeatureTap
from dlkd.teacher import FrozenTeacher

LOGITS, PROBE_LOGITS = "logits", "probe_logits"


class Lesson(NamedTuple):
    """The teacher's logits and the distances to its probes, for one batch of views."""

    logits: Tensor
    """``[B, C]``."""
    columns: dict[str, Tensor]
    """Named distances, each ``[B]`` fp32, as ``global-0.3/l2/tau1``."""
    probe_logits: Tensor | None = None
    """``[B, C]``, the mean over the probes, where they were asked for."""
    features: tuple[Tensor, ...] = ()
    """What the tapped layers of the teacher returned. They are never kept: not in :meth:`tensors`."""

    def difficulty(self, score: DifficultyScore, probes: Sequence[str], target: Tensor) -> Tensor:
        """Difficulty ``[B]`` by ``score``; of one that needs a probe, the mean of the columns of ``probes``."""
        if score.needs == "probe":
            return mean_distance(self.columns, [score.column(name) for name in probes])
        return score(self.logits, target=target)

    def tensors(self) -> dict[str, Tensor]:
        """All that is kept of it, by name; see :meth:`of`."""
        probe = {} if self.probe_logits is None else {PROBE_LOGITS: self.probe_logits}
        return {LOGITS: self.logits, **probe, **self.columns}

    def to(self, device: torch.device) -> Lesson:
        """The lesson on ``device``, features left out."""
        return Lesson.of({name: values.to(device) for name, values in self.tensors().items()})

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Lesson:
        """The lesson that gave these :meth:`tensors`."""
        columns = {name: values for name, values in tensors.items() if name not in (LOGITS, PROBE_LOGITS)}
        return cls(tensors[LOGITS], columns, tensors.get(PROBE_LOGITS))

    @classmethod
    def join(cls, parts: Sequence[Lesson]) -> Lesson:
        """One lesson of all samples, in order, on the CPU."""
        tensors = [part.tensors() for part in parts]
        return cls.of({name: torch.cat([t[name].cpu() for t in tensors]) for name in tensors[0]})


class Lessons(Protocol):
    """Where lessons come from: :class:`LiveLessons`, or a store."""

    def __call__(self, batch: Batch) -> Lesson:
        """The lesson of a batch of views, on its device."""

    def plain(self, samples: Samples, size: int | None = None) -> Lesson:
        """The lesson of images without augmentation, on the CPU; ``size`` is the side of those from files."""


class LiveLessons:
    """Asks the frozen teacher and its probes about every view.

    Args:
        teacher: with the probes whose distances are wanted, possibly none.
        scores: those of its probes that are wanted as columns.
        probe_logits: are the probes' logits wanted as well?
        tap: on layers of the teacher whose features are wanted, in the lessons of views alone.
    """

    def __init__(
        self,
        teacher: FrozenTeacher,
        scores: Sequence[DifficultyScore] = (DifficultyScore(),),
        *,
        probe_logits: bool = False,
        tap: FeatureTap | None = None,
    ) -> None:
        self.teacher, self.scores, self.probe_logits, self.tap = teacher, tuple(scores), probe_logits, tap

    def __call__(self, batch: Batch) -> Lesson:
        """The lesson of ``batch``."""
        with self.tap or contextlib.nullcontext():
            lesson = self._lesson(batch.images)
        return lesson if self.tap is None else lesson._replace(features=tuple(self.tap.take()))

    def plain(self, samples: Samples, size: int | None = None) -> Lesson:
        """The lesson of images without augmentation, on the CPU."""
        batches = plain_batches(samples, size=size)
        return Lesson.join([self._lesson(images.to(self.teacher.device)) for images, _ in batches])

    def _lesson(self, images: Tensor) -> Lesson:
        out = self.teacher(images)
        return Lesson(out.logits, out.columns(self.scores), out.mean_probe_logits() if self.probe_logits else None)
