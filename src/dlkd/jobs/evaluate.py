"""``dlkd evaluate``: the figures of a trained model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from dlkd.data import DataOptions, load_data
from dlkd.errors import UserError, first_line
from dlkd.evaluate import check_finite, figures, logits_of
from dlkd.files import write_json
from dlkd.jobs.card import CONFIG, machine
from dlkd.models import load_model
from dlkd.train.options import RunOptions
from dlkd.train.session import make_fabric
from dlkd.train.teachers import image_side


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on the held-out or the test images.

    Attributes:
        weights: a run folder, a student.safetensors, or another file of weights.
        name: the model; not needed for runs of ours.
        split: which images.
        device: auto, cpu, cuda, cuda:1, mps.
        out: write the figures to this JSON file as well.
        overwrite: replace an earlier file.
        data: images and labels; where none of these options is given, those of the run folder in weights.
    """

    weights: Path
    name: str | None = None
    split: Literal["test", "held_out", "train"] = "test"
    device: str = "auto"
    out: Path | None = None
    overwrite: bool = False
    data: DataOptions = field(default_factory=DataOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.out is not None:
            check_new_file(self.out, overwrite=self.overwrite)
        if not self.weights.exists():
            raise UserError(f"expected weights at {self.weights}, but there is nothing")


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Print and return the figures.

    Raises:
        UserError: weights or data that are missing or do not fit.
    """
    options.check()
    device = pick_device(options.device)
    asked = options.data
    if asked == DataOptions() and (options.weights / CONFIG).is_file():
        asked = data_of_run(options.weights)
        print(f"note: images and labels are those of {options.weights / CONFIG}")
    data = load_data(asked)
    samples = data.part(options.split).labelled()
    if not len(samples):
        raise UserError(f"expected {options.split} images with labels to score the model on, but there are none")
    try:
        classes, channels = len(samples.class_names), samples.pixels.channels
        loaded = load_model(options.name, options.weights, classes, channels=channels, prefix="--")
    except ValueError as error:
        raise UserError(str(error)) from error
    size = image_side(asked, loaded)
    logits, labels = logits_of(loaded.module.to(device), samples, loaded.input_format, size)
    check_finite(logits, samples.ids, "model")
    found = {"split": options.split, "images": len(labels), **figures(logits, labels), **machine()}
    if options.out is not None:
        write_json(options.out, found)
    for key, value in found.items():
        if isinstance(value, int | float):
            print(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")
    return found


def data_of_run(folder: Path) -> DataOptions:
    """The images and labels that the run in ``folder`` was told to use."""
    file = folder / CONFIG
    try:
        values = yaml.safe_load(file.read_text())["data"]
        # What has no label has no figures either.
        return dataclasses.replace(DataOptions(**values), root=Path(values["root"]), unlabelled=None)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, KeyError) as error:
        reason = first_line(error)
        raise UserError(f"{file} is damaged ({reason}); state the --data options") from error


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Say before hours of work why ``path`` cannot be written."""
    if path.exists() and not overwrite:
        raise UserError(f"{path} is there already; give --overwrite to replace it, or another --out")
    if path.is_dir():
        raise UserError(f"expected --out to be a file, but {path} is a folder")
    if not path.parent.is_dir():
        raise UserError(f"expected the folder of --out {path} to exist; make it first")


def pick_device(device: str) -> torch.device:
    """``auto`` is the accelerator, if there is one."""
    return make_fabric(RunOptions(device=device)).device
