"""A teacher that the user has: what it says of the training images, and whether it has seen them."""

from __future__ import annotations

import numpy as np
import torch

from dlkd.audit.answers import Answers, ask, shown
from dlkd.audit.judged import Judged, everything
from dlkd.audit.options import AuditOptions
from dlkd.audit.seen import as_said, guessed
from dlkd.data import DataOptions, DataSet, Samples, ViewFamily, load_data, view_family
from dlkd.train.device import pick_device
from dlkd.train.teach import Teaching, check_distances, make_teaching
from dlkd.train.teacher_options import TeacherOptions
from dlkd.train.teachers import image_side, load_teacher


def by_teacher(options: AuditOptions) -> Judged:
    """Ask the teacher of ``options`` about all training images.

    Raises:
        UserError: a teacher that is missing or does not fit.
    """
    whole, data = everything(options.data), load_data(options.data)
    teaching, family, size = teaching_of(options, options.teacher, options.data, data)
    answers = answers_about(options, teaching, family, whole.train, size)
    seen = as_said(teaching.seen, whole.train, data.held_out)
    remarks = [*data.remarks, *teaching.remarks]
    if teaching.seen == "unknown":
        seen, remark = guessed(teaching.teacher, whole, size, "teacher")
        remarks.append(remark)
    oracle = teaching.labels == "clean" and whole.noise is not None
    folds = np.full(len(whole.train), -1)
    return Judged(whole.train, answers, seen, folds, oracle, tuple(remarks))


def teaching_of(
    options: AuditOptions, teacher: TeacherOptions, asked: DataOptions, data: DataSet
) -> tuple[Teaching, ViewFamily, int]:
    """A teacher with its probes, how images are augmented, and the side of those that come from files."""
    device = pick_device(options.device)
    loaded = load_teacher(teacher, data, data.train.pixels.channels)
    size = image_side(asked, *loaded.members) or 224
    teaching = make_teaching(
        teacher, options.probe, options.engine, data, loaded, size=size, with_probes=True, device=device
    )
    return teaching, view_family(options.views, data, options.seed, size), size


def answers_about(
    options: AuditOptions, teaching: Teaching, family: ViewFamily, samples: Samples, size: int
) -> Answers:
    """What a teacher and its probes say of ``samples``.

    Raises:
        UserError: logits that are not finite.
    """
    teacher = teaching.teacher
    views = (ask(teacher, batches, teacher.device) for batches in shown(samples, family, options.augmented, size))
    answers = Answers.of_logits(samples.ids, views, options.distance_temperature)
    check_distances(torch.from_numpy(answers.distance), samples.ids)
    return answers
