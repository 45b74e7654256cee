"""What a teacher says about images that a model is scored on, and how hard they are for it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkd.data import DataSet, Samples, ViewFamily
from dlkd.difficulty import DifficultyLevel, DifficultyScore
from dlkd.store import Lesson, LiveLessons
from dlkd.train.engine import EngineOptions
from dlkd.train.options import ProbeOptions, TeacherOptions
from dlkd.train.teach import Teaching, check_distances, make_teaching
from dlkd.train.teachers import load_teacher

BATCH = 256


class TeacherAnswers(NamedTuple):
    """About some images, without augmentation."""

    logits: Tensor
    """``[N, C]``."""
    level: Tensor
    """``[N]``: the rank of their difficulty among the training views."""
    teaching: Teaching


def teacher_answers(
    teacher: TeacherOptions,
    probe: ProbeOptions,
    data: DataSet,
    samples: Samples,
    family: ViewFamily,
    *,
    size: int,
    device: torch.device,
) -> TeacherAnswers:
    """Ask the teacher and its probes, as at the end of a run.

    Args:
        teacher: whose answers.
        probe: by which difficulty is measured.
        data: the classes and the training images.
        samples: what is asked about.
        family: the training views, whose distances are the reference of the level.
        size: side in pixels of images that come from files.
        device: of teacher and probes.

    Raises:
        UserError: a teacher that is missing or does not fit, or distances that are not finite.
    """
    loaded = load_teacher(teacher, data, samples.pixels.channels)
    teaching = make_teaching(teacher, probe, EngineOptions(), data, loaded, size=size, with_probes=True, device=device)
    lessons, score, names = LiveLessons(teaching.teacher), DifficultyScore(), [spec.name for spec in teaching.specs]

    def difficulty(lesson: Lesson, target: Tensor, about: Samples, positions: np.ndarray) -> Tensor:
        found = lesson.difficulty(score, names, target)
        check_distances(found, about.ids[positions])
        return found

    n = len(family.samples) if probe.level_views else min(len(family.samples), probe.reference)
    level, reference = DifficultyLevel(), []
    for view in range(max(1, probe.level_views)):
        order = family.order(view)
        # Whole pairs of one view number: mixed images are part of the family.
        for batch in family.batches(order[:n] if n < order.size else np.arange(order.size), view, BATCH):
            lesson = lessons(batch.to(device))
            reference.append(difficulty(lesson, batch.target, family.samples, batch.positions.cpu().numpy()).cpu())
    level.calibrate(torch.cat(reference))
    lesson = lessons.plain(samples, size)
    distance = difficulty(lesson, samples.labels, samples, np.arange(len(samples)))
    return TeacherAnswers(lesson.logits, level(distance), teaching)
