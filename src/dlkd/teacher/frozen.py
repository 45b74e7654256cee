"""A teacher that cannot be trained, moved into a checkpoint or woken from eval mode by accident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dlkd.difficulty.distance import probe_distance


class TeacherOutput(NamedTuple):
    """What one call of :class:`FrozenTeacher` returns."""

    logits: Tensor
    """``[B, C]`` of the teacher."""
    probe_logits: tuple[Tensor, ...]
    """``[B, C]`` of each probe."""

    def distance(self, temperature: float = 1.0) -> Tensor:
        """Mean over the probes of :func:`dlkd.probe_distance`, ``[B]``: the difficulty."""
        if not self.probe_logits:
            raise ValueError("expected at least one probe, but this teacher has none")
        columns = [probe_distance(self.logits, p, temperature=temperature) for p in self.probe_logits]
        return torch.stack(columns).mean(dim=0)


class FrozenTeacher:
    """Teacher and probes behind one call, on one view, with the teacher's own input format.

    It is deliberately no ``nn.Module``: assigned to a module it stays outside that module's tree,
    so neither ``state_dict()`` nor ``train()`` reach it. Models that were woken by somebody else
    are put back to eval before every call; dropout and batch statistics never move.

    Args:
        teacher: images ``[B, 3, H, W]`` → logits ``[B, C]``.
        probes: pruned copies of it (:func:`dlkd.prune_teacher`), possibly none.
        mean, std: per channel; the input is an image in [0, 1]. ``None`` leaves it as it is.
        resolution: input side in pixels; other sizes are resized (bilinear, antialiased).
    """

    def __init__(
        self,
        teacher: nn.Module,
        probes: Sequence[nn.Module] = (),
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        resolution: int | None = None,
    ) -> None:
        if (mean is None) != (std is None):
            raise ValueError("expected mean and std together, or neither")
        self.models = (teacher, *probes)
        for model in self.models:
            model.requires_grad_(False)
        self._mean = None if mean is None else torch.tensor(mean).view(1, -1, 1, 1)
        self._std = None if std is None else torch.tensor(std).view(1, -1, 1, 1)
        self.resolution = resolution

    def to(self, device: torch.device | str) -> FrozenTeacher:
        """Move all models; returns self."""
        for model in self.models:
            model.to(device)
        return self

    def __call__(self, images: Tensor) -> TeacherOutput:
        """Images ``[B, 3, H, W]`` → logits of teacher and probes, usable as loss targets."""
        with torch.inference_mode():
            for model in self.models:
                if any(m.training for m in model.modules()):
                    model.eval()
            x = self._prepare(images)
            outputs = [model(x) for model in self.models]
        # Copied outside inference mode: autograd refuses inference tensors as saved values.
        teacher, *probes = (output.clone() for output in outputs)
        return TeacherOutput(teacher, tuple(probes))

    def _prepare(self, images: Tensor) -> Tensor:
        x = images
        if self.resolution is not None and x.shape[-2:] != (self.resolution, self.resolution):
            x = functional.interpolate(x, size=(self.resolution,) * 2, mode="bilinear", antialias=True)
        if self._mean is None or self._std is None:
            return x
        return (x - self._mean.to(x)) / self._std.to(x)
