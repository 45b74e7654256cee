"""What a teacher says about images that a model is scored on, and how hard they are for it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlkd.data import Batch, DataSet, Samples, ViewOptions, view_family
from dlkd.difficulty import DifficultyLevel, DifficultyScore
from dlkd.store import LiveLessons
from dlkd.train.calibration import TOGETHER, reference_distances
from dlkd.train.engine import EngineOptions
from dlkd.train.teach import Teaching, make_teaching
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions
from dlkd.train.teachers import load_teacher


class Reference(NamedTuple):
    """What difficulty is, and the training views among which an image has its level."""

    views: ViewOptions = ViewOptions()
    seed: int = 0
    """Of the views."""
    probe: ProbeOptions = ProbeOptions()
    score: DifficultyScore = DifficultyScore()
    level: DifficultyLevel | None = None
    """Not calibrated; None for the rank."""
    batch_size: int = TOGETHER
    """Samples that training shows the teacher at once, on which the statistics of a batch depend."""


class TeacherAnswers(NamedTuple):
    """About some images, without augmentation."""

    logits: Tensor
    """``[N, C]``."""
    level: Tensor
    """``[N]``: of their difficulty, among the training views."""
    teaching: Teaching


def teacher_answers(
    teacher: TeacherOptions,
    reference: Reference,
    data: DataSet,
    samples: Samples,
    *,
    size: int,
    device: torch.device,
) -> TeacherAnswers:
    """Ask the teacher and its probes, as at the end of a run.

    Args:
        teacher: whose answers.
        reference: of the level.
        data: the classes and the training images.
        samples: what is asked about.
        size: side in pixels of images that come from files.
        device: of teacher and probes.

    Raises:
        UserError: a teacher that is missing or does not fit, or distances that are not finite.
    """
    family = view_family(reference.views, data, reference.seed, size).to(device)
    of_probe, score = reference.score.needs == "probe", reference.score
    teaching = make_teaching(
        teacher,
        reference.probe,
        EngineOptions(),
        data,
        load_teacher(teacher, data, samples.pixels.channels),
        size=size,
        with_probes=of_probe,
        device=device,
    )
    lessons, weighted = LiveLessons(teaching.teacher, [score] if of_probe else []), data.train.weights is not None

    def difficulty(batch: Batch) -> Tensor:
        ids = family.samples.ids[batch.positions.cpu().numpy()]
        batch = batch.to(device)
        return teaching.difficulty(lessons(batch), score, batch.target, ids, weighted=weighted)

    distances = reference_distances(difficulty, family, reference.probe, reference.batch_size)
    assert distances is not None
    level = (reference.level or DifficultyLevel()).to(device)
    level.calibrate(distances.flatten())
    lesson = lessons.plain(samples, size)
    distance = teaching.difficulty(lesson, score, samples.labels, samples.ids, weighted=weighted)
    return TeacherAnswers(lesson.logits, level(distance.to(device)).cpu(), teaching)
