"""What the teacher says about a batch of views, asked live."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dlkd.data import Batch, Samples, plain_batches
from dlkd.teacher import FrozenTeacher


class Lesson(NamedTuple):
    """The teacher's logits and the distances to its probes, for one batch of views."""

    logits: Tensor
    """``[B, C]``."""
    columns: dict[str, Tensor]
    """Named distances, each ``[B]`` fp32, as ``global-0.3/l2/tau1``."""

    @staticmethod
    def join(parts: list[Lesson]) -> Lesson:
        """One lesson of all samples, in order, on the CPU."""
        columns = {name: torch.cat([p.columns[name].cpu() for p in parts]) for name in parts[0].columns}
        return Lesson(torch.cat([p.logits.cpu() for p in parts]), columns)


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
        distance_temperature: τ_d of :func:`dlkd.probe_distance`.
    """

    def __init__(self, teacher: FrozenTeacher, distance_temperature: float = 1.0) -> None:
        self.teacher, self.distance_temperature = teacher, distance_temperature

    def __call__(self, batch: Batch) -> Lesson:
        """The lesson of ``batch``."""
        out = self.teacher(batch.images)
        return Lesson(out.logits, out.columns(self.distance_temperature))

    def plain(self, samples: Samples, size: int | None = None) -> Lesson:
        """The lesson of images without augmentation, on the CPU."""
        outputs = (self.teacher(images.to(self.teacher.device)) for images, _ in plain_batches(samples, size=size))
        return Lesson.join([Lesson(out.logits, out.columns(self.distance_temperature)) for out in outputs])
