"""``dlkd evaluate``: the figures of a trained model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dlkd.data import DataOptions, load_data
from dlkd.errors import UserError
from dlkd.evaluate import figures, logits_of
from dlkd.files import write_json
from dlkd.jobs.card import machine
from dlkd.models import load_model


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on the held-out or the test images.

    Attributes:
        weights: a run folder, a student.safetensors, or another file of weights.
        name: the model; not needed for runs of ours.
        split: which images.
        device: auto, cpu, cuda, cuda:1, mps.
        out: write the figures to this JSON file as well.
        data: images and labels; those of the run have to be stated again.
    """

    weights: Path
    name: str | None = None
    split: Literal["test", "held_out", "train"] = "test"
    device: str = "auto"
    out: Path | None = None
    data: DataOptions = field(default_factory=DataOptions)


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Print and return the figures.

    Raises:
        UserError: weights or data that are missing or do not fit.
    """
    data = load_data(options.data)
    samples = {"test": data.test, "held_out": data.held_out, "train": data.train}[options.split]
    if samples is None:
        raise UserError("there are no held-out images; give --data.held_out a share above 0")
    try:
        loaded = load_model(options.name, options.weights, len(samples.class_names), channels=samples.pixels.channels)
    except ValueError as error:
        raise UserError(str(error)) from error
    known: Any = loaded.card.get("image_size")
    size = options.data.image_size or (known if isinstance(known, int) else None) or loaded.input_format.resolution
    logits, labels = logits_of(loaded.module.to(pick_device(options.device)), samples, loaded.input_format, size)
    found = {"split": options.split, "images": len(labels), **figures(logits, labels), **machine()}
    if options.out is not None:
        write_json(options.out, found)
    for key, value in found.items():
        if isinstance(value, int | float):
            print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    return found


def pick_device(device: str) -> torch.device:
    """``auto`` is the accelerator, if there is one."""
    from dlkd.train.options import RunOptions
    from dlkd.train.session import make_fabric

    return make_fabric(RunOptions(device=device)).device
