"""How a run is carried out: precision, memory format, what is written on the way."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
from torch import nn

from dlkd.errors import UserError

NARROW = 16
"""Input channels; see :func:`safe_in_channels_last`."""
Tracked = Literal["wandb", "mlflow"]


@dataclass(frozen=True)
class EngineOptions:
    """How the run is carried out; but for precision, none of it changes more than the rounding.

    Attributes:
        precision: of the student's arithmetic; the loss is fp32 in all of them. auto is bf16 on GPUs that have it, else
            fp32.
        channels_last: memory format of student and teacher; auto is true for images of three channels or more on a CPU,
            and in half precision, but for students of so few channels that torch crashes.
        compile: compile student, teacher and probes with torch.compile.
        fused: one kernel for the whole step of the optimizer; auto is true on CUDA, but not in fp16, which cannot clip
            gradients with it.
        threads: of the CPU; by default torch's choice. A resumed run needs the same for the same bits.
        check_finite: stop on logits or a loss that are not finite, name the samples and keep the batch for
            :func:`dlkd.replay`.
        checkpoint_every: optimizer steps between checkpoints; one more is written after every epoch.
        evaluate_every: epochs between figures on the held-out images; 0 for never.
        tensorboard: write TensorBoard files beside the CSV files.
        track: tell wandb or mlflow, or both as [wandb, mlflow], the figures of every epoch, and give them run card,
            results and report at the end.
        report: write report.html at the end.
    """

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    fused: bool | Literal["auto"] = "auto"
    threads: int | None = None
    check_finite: bool = True
    checkpoint_every: int = 500
    evaluate_every: int = 1
    tensorboard: bool = True
    track: Tracked | list[Tracked] | None = None
    report: bool = True

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        for name, least in (("threads", 1), ("checkpoint_every", 1), ("evaluate_every", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"expected --engine.{name} to be at least {least}, but got {value}")
        if self.fused is True and self.precision == "fp16":
            raise UserError("expected --engine.fused auto or false with --engine.precision fp16, but got true")
        for name in self.trackers:
            # Of a mere folder of that name in the working folder there is no file.
            if (found := find_spec(name)) is None or found.origin is None:
                raise UserError(f"--engine.track {name} needs the library {name}: pip install 'dlkd[{name}]'")

    @property
    def trackers(self) -> tuple[Tracked, ...]:
        """Those of ``track``, each once."""
        named = [self.track] if isinstance(self.track, str) else self.track or []
        return tuple(dict.fromkeys(named))

    def uses_fused(self, device: torch.device) -> bool:
        """Whether the optimizer of a run takes its step in one kernel."""
        return device.type == "cuda" and self.precision != "fp16" if self.fused == "auto" else self.fused

    def uses_channels_last(self, channels: int, device: torch.device, student: nn.Module | None = None) -> bool:
        """The memory format of a run on images of so many channels, of ``student`` with its backward, or of others."""
        if self.channels_last != "auto":
            return self.channels_last
        if device.type == "cpu" and student is not None and not safe_in_channels_last(student):
            return False
        return channels >= 3 and (device.type == "cpu" or self.precision in ("bf16", "fp16"))


def safe_in_channels_last(module: nn.Module) -> bool:
    """Whether a CPU trains it in channels-last: of a 1×1 convolution with a stride and few input channels, the backward
    of torch 2.14 writes beyond its memory (8 channels do so on 56 pixels, 12 do not on 64)."""
    return not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < NARROW
        for layer in module.modules()
    )
