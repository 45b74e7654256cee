"""What is left to ``auto``, settled in one place: from the number of training images and from the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch

from dlkd.methods import resolve_loss
from dlkd.train.engine import EngineOptions
from dlkd.train.options import DistillOptions, RunOptions

if TYPE_CHECKING:
    from dlkd.train.session import Session

Options = TypeVar("Options", bound=RunOptions)

SHOWN, FEWEST, MOST = 200_000, 15, 100
"""Images that a run shows its student, and the fewest and most epochs that this may come to."""
BATCH, BATCHES = 64, 4
"""Samples in a batch where there are enough for so many batches an epoch. The learning rate is for 64."""


def settled(options: Options, samples: int, device: torch.device) -> Options:
    """The options with numbers in place of what was ``auto``.

    epochs: 200,000 images shown in all, but 15 to 100 epochs. ``optim.batch_size``: 64; of few images the largest power
    of two that makes four batches an epoch. ``engine.precision``: bf16 on GPUs that have it, else fp32.
    ``optim.lr``: 0.001 for adamw, 0.05 for sgd, there over w_ce + w_kd where that is above 1: steps of sgd are as
    long as the loss is large, and weights of 9.1 destroy a student that begins with trained weights, or has few steps
    (docs/evidence.md).

    Args:
        options: of a run.
        samples: training images.
        device: that it runs on.
    """
    epochs, batch = options.epochs, options.optim.batch_size
    if epochs == "auto":
        epochs = min(MOST, max(FEWEST, round(SHOWN / samples)))
    if batch == "auto":
        batch = min(BATCH, 1 << max(1, (samples // BATCHES).bit_length() - 1))
    return replace(
        options,
        epochs=epochs,
        optim=replace(options.optim, batch_size=batch, lr=rate_of(options)),
        engine=replace(options.engine, precision=precision(options.engine, device.type)),
    )


def rate_of(options: RunOptions) -> float:
    """The learning rate of a run; see :func:`settled`."""
    rate = options.optim.rate
    if options.optim.lr != "auto" or options.optim.optimizer != "sgd" or not isinstance(options, DistillOptions):
        return rate
    weights = resolve_loss(options.method, options.loss)
    return rate / max(1.0, sum(float(weights.get(name) or 0) for name in ("ce_weight", "kd_weight")))


def precision(engine: EngineOptions, kind: str) -> Literal["fp32", "bf16", "fp16"]:
    """That of the student's arithmetic, on a device of a kind as ``cuda``."""
    if engine.precision != "auto":
        return engine.precision
    # Before Ampere it is emulated.
    return "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def as_recorded(options: Options, page: Mapping[str, Any]) -> Options:
    """With what ``auto`` came to when the run began, by the page of options in its folder."""

    def known(group: Any, of: Any) -> Any:
        if not isinstance(of, Mapping):
            return group
        taken = {
            f.name: of[f.name] for f in fields(group) if getattr(group, f.name) == "auto" and of.get(f.name) is not None
        }
        return replace(group, **taken)

    groups = {name: known(getattr(options, name), page.get(name)) for name in ("data", "optim", "engine")}
    if options.optim.batch_size == "auto" and options.optim.accumulate == 1 and isinstance(page.get("optim"), Mapping):
        # Cut to what fitted into memory.
        groups["optim"] = replace(groups["optim"], accumulate=page["optim"].get("accumulate", 1))
    epochs = page.get("epochs", options.epochs) if options.epochs == "auto" else options.epochs
    return replace(options, epochs=epochs, **groups)


def said(session: Session, asked: RunOptions) -> str:
    """In words, what every option that was left open came to.

    Args:
        session: of the run.
        asked: its options as the user gave them.
    """
    options, device = session.options, session.fabric.device
    found: dict[str, object] = {}
    if asked.device == "auto":
        found["device"] = device.type
    if asked.epochs == "auto":
        found["epochs"] = session.epochs
    if asked.optim.batch_size == "auto":
        parts = f" in {options.optim.accumulate} parts" if options.optim.accumulate > 1 else ""
        found["batch size"] = f"{session.steps.batch_size}{parts}"
    if asked.optim.lr == "auto":
        found["learning rate"] = f"{options.optim.rate:.3g}"
    if asked.engine.precision == "auto":
        found["precision"] = options.engine.precision
    if asked.engine.channels_last == "auto":
        found["channels last"] = "yes" if session.channels_last else "no"
    if asked.engine.fused == "auto":
        found["fused optimizer"] = "yes" if options.engine.uses_fused(device) else "no"
    if asked.data.workers is None:
        found["workers"] = session.workers
    if asked.data.image_size is None and session.opens_files:
        found["image side"] = session.size
    return ", ".join(f"{name} {value}" for name, value in found.items())
