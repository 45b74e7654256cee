"""A teacher that the user has: what it says of the training images, and whether it has seen them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import roc_auc_score

from dlkd.audit.answers import Answers, ask, shown
from dlkd.audit.judged import Judged, everything
from dlkd.audit.options import AuditOptions
from dlkd.data import DataOptions, DataSet, Samples, ViewFamily, load_data, plain_batches, view_family
from dlkd.teacher import FrozenTeacher
from dlkd.train.device import pick_device
from dlkd.train.teach import Teaching, check_distances, make_teaching
from dlkd.train.teacher_options import TeacherOptions
from dlkd.train.teachers import image_side, load_teacher

SURER = 0.6
"""AUROC of the confidence from which on a teacher is taken to have been trained on the audited images: on images of one
kind that it has not seen it is 0.5, and a CIFAR-100 teacher reaches 0.8 and more on its own."""
COMPARED = 2000
"""So many images of each kind are looked at for that."""


def by_teacher(options: AuditOptions) -> Judged:
    """Ask the teacher of ``options`` about all training images.

    Raises:
        UserError: a teacher that is missing or does not fit.
    """
    whole, data = everything(options.data), load_data(options.data)
    teaching, family, size = teaching_of(options, options.teacher, options.data, data)
    answers = answers_about(options, teaching, family, whole.train, size)
    seen = np.full(len(whole.train), {"train": "yes", "kept": "yes", "none": "no"}.get(teaching.seen, "unknown"), "<U8")
    if teaching.seen == "kept" and data.held_out is not None:
        seen[np.isin(whole.train.ids, data.held_out.ids)] = "no"
    remarks = [*data.remarks, *teaching.remarks]
    if teaching.seen == "unknown":
        surer = _surer(teaching.teacher, whole, size)
        remarks.append(f"the teacher is surer of these images than of test images with AUROC {surer:.2f}")
        if surer > SURER:
            seen[:] = "probably"
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


def _surer(teacher: FrozenTeacher, whole: DataSet, size: int) -> float:
    """AUROC of max p for telling audited images from test images, whose labels are not looked at."""

    def confidence(samples: Samples) -> npt.NDArray[np.floating]:
        some = samples.take(np.arange(0, len(samples), max(1, len(samples) // COMPARED)))
        logits, _ = ask(teacher, (images for images, _ in plain_batches(some, size=size)), teacher.device)
        found: npt.NDArray[np.floating] = torch.softmax(logits, dim=1).amax(dim=1).numpy()
        return found

    audited, unseen = confidence(whole.train), confidence(whole.test)
    return float(roc_auc_score(np.r_[np.ones(audited.size), np.zeros(unseen.size)], np.r_[audited, unseen]))
