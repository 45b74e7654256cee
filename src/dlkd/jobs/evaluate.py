"""``dlkd evaluate``: everything about a trained model, in one table and one JSON file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from dlkd.data import ArrayPixels, DataOptions, DataSet, Samples, load_data
from dlkd.errors import UserError
from dlkd.evaluate import mislabelled, parse_corruptions, parse_severities, print_figures, robustness
from dlkd.evaluate.corruptions import check_corruptions
from dlkd.files import check_new_file, write_json
from dlkd.jobs.card import CONFIG, machine
from dlkd.jobs.of_run import data_beside, reference_of_run
from dlkd.jobs.teacher_answers import Reference, TeacherAnswers, teacher_answers
from dlkd.models import load_model
from dlkd.train.device import pick_device
from dlkd.train.teach import Teaching
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions
from dlkd.train.teachers import image_side


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a trained model on the held-out or the test images.

    Attributes:
        weights: a run folder, a student.safetensors, or another file of weights.
        name: the model; not needed for runs of ours.
        split: which images.
        corruptions: accuracy on spoilt images as well: all (at any size), imagenet-c (from 32 pixels a side), none, or
            names with commas.
        severities: of the corruptions, 1 to 5, with commas.
        seed: of what is random in corruptions.
        device: auto, cpu, cuda, cuda:1, mps.
        out: write the figures to this JSON file as well.
        overwrite: replace an earlier file.
        data: images and labels; where none of these options is given, those of the run in weights, or beside them.
        teacher: compare with this teacher: agreement, divergence, accuracy by difficulty.
        probe: by which its difficulty is measured; by default as in that run, where its images are taken.
    """

    weights: Path
    name: str | None = None
    split: Literal["test", "held_out", "train"] = "test"
    corruptions: str = "none"
    severities: str = "1,2,3,4,5"
    seed: int = 0
    device: str = "auto"
    out: Path | None = None
    overwrite: bool = False
    data: DataOptions = field(default_factory=DataOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)

    @property
    def has_teacher(self) -> bool:
        """Is there one to compare with?"""
        return self.teacher != TeacherOptions()

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.out is not None:
            check_new_file(self.out, overwrite=self.overwrite)
        if not self.weights.exists():
            raise UserError(f"expected weights at {self.weights}, but there is nothing; give the folder of a run")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"expected --seed to be in [0, 2⁶³), but got {self.seed}")
        self.probe.check()
        if self.probe != ProbeOptions() and not self.has_teacher:
            raise UserError("expected --teacher.weights with --probe: difficulty is that of a teacher")
        self.spoilt()

    def spoilt(self) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Corruptions and severities.

        Raises:
            UserError: an unknown one, or a library that is not installed.
        """
        try:
            names, severities = parse_corruptions(self.corruptions), parse_severities(self.severities)
            check_corruptions(names)
        except ValueError as error:
            raise UserError(str(error)) from error
        return names, severities


def evaluate(options: EvaluateOptions) -> dict[str, Any]:
    """Print and return the figures.

    Raises:
        UserError: weights or data that are missing or do not fit.
    """
    options.check()
    device, (names, severities) = pick_device(options.device), options.spoilt()
    asked, of_run = data_beside(options.weights, options.data, "score the model on")
    if of_run is not None:
        print(f"note: images and labels are those of {of_run / CONFIG}")
    data = load_data(asked)
    samples = data.part(options.split).labelled()
    if not len(samples):
        raise UserError(f"expected {options.split} images with labels to score the model on, but there are none")
    try:
        classes, channels = len(samples.class_names), samples.pixels.channels
        loaded = load_model(options.name, options.weights, classes, channels=channels, prefix="--")
        size = image_side(asked, loaded) or 224
        check_corruptions(names, side_of(samples, size))
    except ValueError as error:
        raise UserError(str(error)) from error
    answers = _answers(options, data, samples, size, device, of_run) if options.has_teacher else None
    found = {
        "split": options.split,
        **robustness(
            loaded.module.to(device),
            samples,
            loaded.input_format,
            size=size,
            teacher_logits=None if answers is None else answers.logits,
            level=None if answers is None else answers.level,
            noisy=mislabelled(data),
            corruptions=names,
            severities=severities,
            seed=options.seed,
        ),
        **({} if answers is None else {"teacher": _about(answers.teaching, data)}),
        **machine(),
    }
    if options.out is not None:
        write_json(options.out, found)
    print_figures(found, f"{options.weights}, {options.split.replace('_', '-')} images")
    return found


def _answers(
    options: EvaluateOptions, data: DataSet, samples: Samples, size: int, device: torch.device, of_run: Path | None
) -> TeacherAnswers:
    """The teacher's, with the difficulty level of the run where its images are taken."""
    reference = Reference() if of_run is None else reference_of_run(of_run, len(samples.class_names))
    if options.probe != ProbeOptions():
        if reference.score.needs != "probe":
            raise UserError(
                f"expected no --probe for the run in {options.weights}, whose difficulty is {reference.score.name} and "
                "looks at no probe; state the --data options to leave the settings of the run out"
            )
        reference = reference._replace(probe=options.probe)
    answers = teacher_answers(options.teacher, reference, data, samples, size=size, device=device)
    for remark in answers.teaching.remarks:
        print(f"note: {remark}")
    return answers


def _about(teaching: Teaching, data: DataSet) -> dict[str, object]:
    return {
        "seen": teaching.seen,
        "labels": teaching.labels,
        "oracle": teaching.labels == "clean" and data.noise is not None,
        "probes": [spec.name for spec in teaching.specs],
    }


def side_of(samples: Samples, size: int) -> int:
    """The shorter side in pixels of images as a model is shown them; ``size`` is that of those from files."""
    return min(samples.pixels.array.shape[-2:]) if isinstance(samples.pixels, ArrayPixels) else size
