"""A teacher that cannot be trained, moved into a checkpoint or woken from eval mode by accident."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlkd.difficulty.score import DifficultyScore


class TeacherOutput(NamedTuple):
    """What one call of :class:`FrozenTeacher` returns."""

    logits: Tensor
    """``[B, C]`` of the teacher."""
    probe_logits: tuple[Tensor, ...]
    """``[B, C]`` of each probe."""
    probe_names: tuple[str, ...] = ()
    """One for each probe."""

    def distance(self, temperature: float = 1.0) -> Tensor:
        """Mean over the probes of :func:`dlkd.probe_distance`, ``[B]``: the difficulty."""
        return self.difficulty(DifficultyScore("distance", temperature))

    def difficulty(self, score: DifficultyScore, target: Tensor | None = None) -> Tensor:
        """Difficulty ``[B]`` by ``score``; of one that needs a probe, the mean over the probes.

        Raises:
            ValueError: what the score needs is missing: a probe, or the labels.
        """
        if score.needs != "probe":
            return score(self.logits, target=target)
        if not self.probe_logits:
            raise ValueError("expected at least one probe, but this teacher has none")
        return torch.stack([score(self.logits, probe_logits=p) for p in self.probe_logits]).mean(0)

    def columns(self, scores: Sequence[DifficultyScore] = (DifficultyScore(),)) -> dict[str, Tensor]:
        """The difficulty by each probe as named fp32 columns ``[B]``, as ``global-0.3/l2/tau1``."""
        return {
            score.column(name): score(self.logits, probe_logits=p)
            for name, p in zip(self.probe_names, self.probe_logits, strict=True)
            for score in scores
        }

    def mean_probe_logits(self) -> Tensor | None:
        """Mean of the probes' logits, ``[B, C]``; None without a probe."""
        return torch.stack(self.probe_logits).mean(dim=0) if self.probe_logits else None


class FrozenTeacher:
    """Teacher and probes behind one call, on one view, with the teacher's own input format.

    It is deliberately no ``nn.Module``: assigned to a module it stays outside that module's tree,
    so neither ``state_dict()`` nor ``train()`` reach it. Models that were woken by somebody else
    are put back to eval before every call; dropout and batch statistics never move.

    Args:
        teacher: images ``[B, 3, H, W]`` → logits ``[B, C]``.
        probes: pruned copies of it (:func:`dlkd.prune_teacher`), possibly none, possibly by name.
        input_format: from images in [0, 1] to what the teacher wants to see, as
            :class:`dlkd.models.InputFormat`. ``None`` leaves them as they are.
        channels_last: memory format of models and input; folding comes before it.
        compiled: call them through torch.compile.
        autocast: half precision to compute in, or None for that of the weights. The logits are fp32.
        at_once: images that the models are shown at once, to save memory; None for all of a batch.
    """

    def __init__(
        self,
        teacher: nn.Module,
        probes: Sequence[nn.Module] | Mapping[str, nn.Module] = (),
        *,
        input_format: Callable[[Tensor], Tensor] | None = None,
        channels_last: bool = False,
        compiled: bool = False,
        autocast: torch.dtype | None = None,
        at_once: int | None = None,
    ) -> None:
        named = probes if isinstance(probes, Mapping) else {f"probe{k}": p for k, p in enumerate(probes)}
        self.models: tuple[nn.Module, ...] = (teacher, *named.values())
        self.probe_names = tuple(named)
        self.input_format = input_format
        self.channels_last = channels_last
        self.autocast, self.at_once = autocast, at_once
        for model in self.models:
            model.eval().requires_grad_(False)
            if channels_last:
                model.to(memory_format=torch.channels_last)
        self._calls: tuple[Any, ...] = tuple(map(torch.compile, self.models)) if compiled else self.models

    def to(self, device: torch.device | str) -> FrozenTeacher:
        """Move all models; returns self."""
        for model in self.models:
            model.to(device)
        return self

    def release(self) -> None:
        """Let go of all models, whose answers are kept elsewhere; it cannot be asked any more."""
        self.models = self._calls = ()

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.models[0].parameters()).device

    def __call__(self, images: Tensor) -> TeacherOutput:
        """Images ``[B, 3, H, W]`` → logits of teacher and probes, usable as loss targets.

        Raises:
            ValueError: a model returns something else than ``[B, C]``.
        """
        with torch.inference_mode(), self._precision(images):
            for model in self.models:
                if any(m.training for m in model.modules()):
                    model.eval()
            parts = [self._ask(part) for part in images.split(self.at_once or max(1, len(images)))]
        # Copied outside inference mode: autograd refuses inference tensors as saved values.
        teacher, *probes = (torch.cat(outputs) for outputs in zip(*parts, strict=True))
        return TeacherOutput(teacher, tuple(probes), self.probe_names)

    def _ask(self, images: Tensor) -> list[Tensor]:
        x = images if self.input_format is None else self.input_format(images)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return [_plain(call(x), len(images)) for call in self._calls]

    def _precision(self, images: Tensor) -> contextlib.AbstractContextManager[object]:
        if self.autocast is None:
            # Not the student's autocast either: stored and live outputs must agree.
            return torch.autocast(images.device.type, enabled=False)
        return torch.autocast(images.device.type, self.autocast)


def _plain(logits: object, batch: int) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != batch:
        found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        hint = "; wrap it, dlkd.integrations.LogitsOf(teacher)" if hasattr(logits, "logits") else ""
        raise ValueError(f"expected the teacher to return logits [{batch}, classes], but got {found}{hint}")
    return logits if logits.dtype == torch.float64 else logits.float()
