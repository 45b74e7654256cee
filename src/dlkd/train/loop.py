"""The loop: the same views, order and schedule for whatever loss it is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlkd.data import CropFlip, ImageArrays, view_key

_ORDER, _STEP = 100, 101
"""Streams of the view key that draw the order of an epoch and the randomness of a step."""


@dataclass(frozen=True)
class Schedule:
    """SGD with Nesterov momentum under a one-cycle learning rate."""

    epochs: int = 15
    batch_size: int = 64
    peak_lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4


class TrainBatch(NamedTuple):
    """One batch of views."""

    views: Tensor
    """``[B, channels, H, W]``."""
    labels: Tensor
    """``[B]``, as given: possibly wrong."""


def fit(
    student: nn.Module,
    train: ImageArrays,
    views: CropFlip,
    loss: Callable[[Tensor, TrainBatch], Tensor],
    schedule: Schedule,
    seed: int,
) -> None:
    """Train ``student`` in place; ``loss(student_logits, batch)`` returns a scalar.

    Order and views depend on the seeds alone, so two methods with the same seed see the same batches.

    Raises:
        FloatingPointError: the loss is not finite; the message names the step.
    """
    n, batch = train.labels.numel(), min(schedule.batch_size, train.labels.numel())
    steps = schedule.epochs * (n // batch)
    optimizer = torch.optim.SGD(
        decay_groups(student, schedule.weight_decay),
        lr=schedule.peak_lr,
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.peak_lr, total_steps=steps + 1)
    student.train()
    for step, data in enumerate(batches(train, views, schedule.epochs, batch, seed)):
        # Every step draws from its own seed: what came before cannot matter.
        torch.default_generator.manual_seed(int(view_key(seed, step, 0, _STEP)))
        value = loss(student(data.views), data)
        if not bool(value.isfinite()):
            raise FloatingPointError(f"expected a finite loss, but got {value.item()} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        optimizer.step()
        scheduler.step()


def batches(train: ImageArrays, views: CropFlip, epochs: int, batch_size: int, seed: int) -> Iterator[TrainBatch]:
    """All batches of a run: epoch e shows view e of every sample, in a seeded order, last partial dropped."""
    n = train.labels.numel()
    for epoch in range(epochs):
        order = np.random.default_rng(int(view_key(seed, epoch, 0, _ORDER))).permutation(n)
        for start in range(0, n - batch_size + 1, batch_size):
            index = order[start : start + batch_size]
            part = train.take(index)
            yield TrainBatch(views(part.images, index, epoch), part.labels)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels, none for norms and biases (vectors)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
