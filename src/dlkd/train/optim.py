"""Optimizer and learning rate. The rate is a pure function of the step: a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from dlkd.errors import UserError

_RISE, _START_DIVISOR, _END_DIVISOR = 0.3, 25.0, 1e4
"""``pct_start``, ``div_factor`` and ``final_div_factor`` of torch's OneCycleLR."""


@dataclass(frozen=True)
class OptimOptions:
    """How the student is optimised.

    Attributes:
        optimizer: Stochastic gradient descent, or Adam with decoupled weight decay.
        lr: Highest learning rate; auto is 0.001 for adamw, and for sgd 0.05 over the sum of the loss's weights where
            that is above 1: its steps are as long as the loss is large.
        momentum: Momentum of sgd, in [0, 1); adamw does not use it.
        nesterov: Nesterov momentum, for sgd.
        weight_decay: Weight decay.
        decay_of: What decays: matrices and kernels (weights), or norms and biases too (all), as in the published
            recipes of distillation.
        schedule: How the learning rate goes over the run, after the warm-up.
        milestones: Where schedule "step" lowers the rate, as rising shares of the run in (0, 1).
        decay: Factor of schedule "step" at each milestone, in (0, 1].
        warmup_epochs: Epochs of linear warm-up; 0 for none. Schedule "one_cycle" brings its own.
        batch_size: Samples in a batch; auto is 64, or a quarter of fewer than 256 images, and what does not fit into
            memory is accumulated.
        accumulate: Batches whose gradients are averaged for one optimizer step.
        clip: Largest norm of the whole gradient; none for no limit.
        ema: Decay of the moving average of the weights, in (0, 1); none for no average.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float | Literal["auto"] = "auto"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decay_of: Literal["weights", "all"] = "weights"
    schedule: Literal["cosine", "step", "one_cycle", "constant"] = "cosine"
    milestones: tuple[float, ...] = (0.625, 0.75, 0.875)
    decay: float = 0.1
    warmup_epochs: float = 0.0
    batch_size: int | Literal["auto"] = "auto"
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None

    @property
    def rate(self) -> float:
        """The highest learning rate as a number."""
        return {"sgd": 0.05, "adamw": 0.001}[self.optimizer] if self.lr == "auto" else self.lr

    def check(self) -> None:
        """Refuse values that cannot work.

        Raises:
            UserError: one line for all bad values.
        """
        problems = [*self._bad_values(), *self._bad_pairs()]
        if problems:
            raise UserError("; ".join(problems))

    def _bad_values(self) -> list[str]:
        def positive(value: float) -> bool:
            return math.isfinite(value) and value > 0

        edges = (0.0, *self.milestones, 1.0)
        rules: list[tuple[str, bool, str]] = [
            ("optimizer", self.optimizer in ("sgd", "adamw"), "sgd or adamw"),
            ("lr", self.lr == "auto" or positive(self.lr), "above 0, like 0.05, or auto"),
            ("momentum", 0 <= self.momentum < 1, "in [0, 1), like 0.9"),
            ("weight_decay", math.isfinite(self.weight_decay) and self.weight_decay >= 0, "0 or above, like 5e-4"),
            (
                "schedule",
                self.schedule in ("cosine", "step", "one_cycle", "constant"),
                "cosine, step, one_cycle or constant",
            ),
            (
                "milestones",
                all(a < b for a, b in pairwise(edges)),
                "rising shares of the run in (0, 1), like [0.5, 0.75]",
            ),
            ("decay", 0 < self.decay <= 1, "in (0, 1], like 0.1"),
            ("warmup_epochs", math.isfinite(self.warmup_epochs) and self.warmup_epochs >= 0, "0 or above"),
            ("batch_size", self.batch_size == "auto" or self.batch_size >= 1, "1 or above, like 64, or auto"),
            ("accumulate", self.accumulate >= 1, "1 or above"),
            ("clip", self.clip is None or positive(self.clip), "above 0, or none for no limit"),
            ("ema", self.ema is None or 0 < self.ema < 1, "in (0, 1), like 0.999, or none for no average"),
        ]
        return [
            f"expected --optim.{name} to be {expected}, but got {getattr(self, name)}"
            for name, good, expected in rules
            if not good
        ]

    def _bad_pairs(self) -> list[str]:
        problems = []
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            problems.append(
                f"expected --optim.nesterov to go with sgd and a momentum above 0, but got {self.optimizer} and "
                f"momentum {self.momentum}; set nesterov to false"
            )
        if self.schedule == "one_cycle" and self.warmup_epochs > 0:
            problems.append(
                f"expected --optim.warmup_epochs to be 0 with schedule one_cycle, which has its own warm-up, but got "
                f"{self.warmup_epochs}; set warmup_epochs to 0"
            )
        return problems


def decay_groups(
    model: nn.Module,
    weight_decay: float,
    extra_parameters: Iterable[nn.Parameter] = (),
    of: Literal["weights", "all"] = "weights",
) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, for norms and biases (vectors) only ``of`` all; each parameter once."""
    unique = {id(p): p for p in (*model.parameters(), *extra_parameters) if p.requires_grad}
    return [
        {"params": [p for p in unique.values() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in unique.values() if p.ndim <= 1], "weight_decay": weight_decay if of == "all" else 0.0},
    ]


def make_optimizer(
    model: nn.Module, options: OptimOptions, extra_parameters: Iterable[nn.Parameter] = (), fused: bool = False
) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters of ``model`` and of what is trained beside it.

    Args:
        model: the student.
        options: of the optimizer.
        extra_parameters: what a method learns.
        fused: one kernel for the whole step, which rounds differently.

    Raises:
        UserError: the options are bad, or nothing is trainable.
    """
    options.check()
    groups = decay_groups(model, options.weight_decay, extra_parameters, options.decay_of)
    if not any(group["params"] for group in groups):
        raise UserError("expected the student to have trainable parameters, but got none; unfreeze some")
    one_kernel = fused or None  # False would forbid torch the second fastest way, too
    if options.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=options.rate, fused=one_kernel)
    momentum, nesterov = options.momentum, options.nesterov
    return torch.optim.SGD(groups, lr=options.rate, momentum=momentum, nesterov=nesterov, fused=one_kernel)


def learning_rate(options: OptimOptions, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """The rate of optimizer step ``step``, counted from 0, of ``total_steps``.

    With W = round(warmup_epochs · steps_per_epoch) steps of warm-up, at most all of them: lr · (step + 1) / W
    while step < W. Then, with t = step − W and T = total_steps − W:

    - cosine: lr · (1 + cos(π t / T)) / 2, torch's CosineAnnealingLR(T_max=T);
    - step: lr · decay^k, k the milestones m with step ≥ round(m · total_steps), torch's MultiStepLR;
    - one_cycle: cosine from lr/25 to lr over 30 % of the run, then to lr/(25·10⁴), torch's OneCycleLR;
    - constant: lr.

    Raises:
        ValueError: ``step`` is outside the run.
    """
    if not 0 <= step < total_steps:
        raise ValueError(f"expected step to be in [0, {total_steps}), but got {step}; count optimizer steps from 0")
    warmup = min(round(options.warmup_epochs * steps_per_epoch), total_steps)
    if step < warmup:
        return options.rate * (step + 1) / warmup
    if options.schedule == "cosine":
        return _cosine(options.rate, 0.0, (step - warmup) / (total_steps - warmup))
    if options.schedule == "step":
        passed = sum(step >= round(share * total_steps) for share in options.milestones)
        return float(options.rate * options.decay**passed)
    if options.schedule == "one_cycle":
        return _one_cycle(options.rate, step - warmup, total_steps - warmup)
    return options.rate


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of ``optimizer`` the same rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _one_cycle(peak: float, step: int, total: int) -> float:
    top, start = _RISE * total - 1, peak / _START_DIVISOR  # fractional, as in torch
    if step <= top:
        # No whole number of steps has its top at 0: the division is safe.
        return _cosine(start, peak, step / top)
    return _cosine(peak, start / _END_DIVISOR, (step - top) / (total - 1 - top))
