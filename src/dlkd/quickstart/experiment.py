"""The quickstart's experiment: setup → teachers → students → results."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import dlkd
from dlkd.data import CropFlip, ImageArrays, digits, stratified_split, symmetric_noise
from dlkd.difficulty import prune_teacher
from dlkd.errors import UserError
from dlkd.evaluate import accuracy, expected_calibration_error, logits_of
from dlkd.files import new_run_folder, write_atomic
from dlkd.losses import cross_entropy, kd_loss
from dlkd.methods import DLKDLoss
from dlkd.models.cifar import CifarResNet
from dlkd.quickstart.page import render
from dlkd.quickstart.summary import print_table, summarise
from dlkd.teacher import FrozenTeacher
from dlkd.train import Schedule, TrainBatch, fit

CLASSES = 10
TEACHER = (14, (16, 16, 32, 64))
STUDENT = (8, (8, 8, 8, 16))
"""Depth and widths. No layer of the student is narrower than 8 channels: on some CPUs the backward pass of
oneDNN for a convolution from 1 to 4 channels corrupts memory (seen with torch 2.14)."""

Loss = Callable[[Tensor, TrainBatch], Tensor]


@dataclass(frozen=True)
class Quickstart:
    """Options of ``dlkd quickstart``.

    Attributes:
        out: new folder for the results.
        overwrite: replace an earlier run in that folder.
        seeds: number of students for each row of the table.
        seed: of the split, the noise and the first student.
        epochs: of students and teachers.
        noise: share of wrong training labels in each class.
        sparsity: share of the teacher's weights that the probe lacks.
    """

    out: Path = Path("runs/quickstart")
    overwrite: bool = False
    seeds: int = 3
    seed: int = 0
    epochs: int = 15
    noise: float = 0.4
    sparsity: float = 0.3

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        for name in ("seeds", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"expected --{name} to be at least 1, but got {getattr(self, name)}")
        if self.seed < 0:
            raise UserError(f"expected --seed to be at least 0, but got {self.seed}")
        if not 0 <= self.noise <= 1:
            raise UserError(f"expected --noise to be in [0, 1], but got {self.noise}")
        if not 0 <= self.sparsity < 1:
            raise UserError(f"expected --sparsity to be in [0, 1), but got {self.sparsity}")


def run(options: Quickstart) -> dict[str, object]:
    """Train everything, print the table, write ``results.json`` and ``report.html``."""
    options.check()
    settings = {**asdict(options), "out": str(options.out)}
    card = {
        "command": "quickstart",
        "settings": settings,
        "versions": {"dlkd": dlkd.__version__, "torch": torch.__version__},
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, no accelerator used",
    }
    new_run_folder(options.out, overwrite=options.overwrite, card=card)
    started = time.monotonic()

    data = digits()
    rest, test_index = stratified_split(data.labels, 0.3, options.seed)
    clean, test = data.take(rest), data.take(test_index)
    noise = symmetric_noise(clean.labels, CLASSES, options.noise, options.seed)
    given = ImageArrays(clean.images, torch.from_numpy(noise.labels))

    rows: list[dict[str, object]] = []
    gallery: dict[str, object] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        rows.append(_student("no teacher", "none", _alone, given, test, options, seed))
        print(_line(rows[-1]), flush=True)
    for teacher_labels, labelled in (("clean", clean), ("noisy", given)):
        teacher, levels = _teacher(labelled, given, options)
        rows.append(_row("teacher", teacher_labels, options.seed, teacher.models[0], test))
        rows.append(_row("probe", teacher_labels, options.seed, teacher.models[1], test))
        for seed in range(options.seed, options.seed + options.seeds):
            for name, loss in (("KD", _kd(teacher)), ("DLKD", _dlkd(teacher, levels))):
                rows.append(_student(name, teacher_labels, loss, given, test, options, seed))
                print(_line(rows[-1]), flush=True)
        gallery[teacher_labels] = _difficulty(teacher, levels, given, noise.wrong)

    summary = summarise(rows, len(test_index))
    seconds = time.monotonic() - started
    print_table(summary, seconds)
    results = {**card, "seconds": seconds, "rows": rows, "summary": summary}
    write_atomic(options.out / "results.json", json.dumps(results, indent=2) + "\n")
    write_atomic(options.out / "report.html", render(results, gallery, given))
    print(f"Report: {options.out / 'report.html'}")
    return results


def _views(seed: int) -> CropFlip:
    return CropFlip(pad=1, flip=False, seed=seed)


def _teacher(labelled: ImageArrays, given: ImageArrays, options: Quickstart) -> tuple[FrozenTeacher, DLKDLoss]:
    """Train a teacher, prune its probe, calibrate the difficulty level on training views."""
    torch.manual_seed(options.seed)
    model = CifarResNet(*TEACHER, CLASSES, channels=1)
    fit(model, labelled, _views(options.seed), _alone, Schedule(options.epochs), options.seed)
    teacher = FrozenTeacher(model.eval(), [prune_teacher(model, options.sparsity)])
    criterion = DLKDLoss()
    index = np.arange(given.labels.numel())
    views = [_views(options.seed)(given.images, index, view) for view in range(2)]
    criterion.calibrate(torch.cat([teacher(v).distance() for v in views]))
    return teacher, criterion


def _alone(student_logits: Tensor, batch: TrainBatch) -> Tensor:
    return cross_entropy(student_logits, batch.labels).mean()


def _kd(teacher: FrozenTeacher) -> Loss:
    def loss(student_logits: Tensor, batch: TrainBatch) -> Tensor:
        kd = kd_loss(student_logits, teacher(batch.views).logits, 4.0)
        return 0.1 * _alone(student_logits, batch) + 0.9 * kd

    return loss


def _dlkd(teacher: FrozenTeacher, criterion: DLKDLoss) -> Loss:
    def loss(student_logits: Tensor, batch: TrainBatch) -> Tensor:
        out = teacher(batch.views)
        value: Tensor = criterion(student_logits, out.logits, batch.labels, distance=out.distance())
        return value

    return loss


def _student(
    method: str,
    teacher: str,
    loss: Loss,
    given: ImageArrays,
    test: ImageArrays,
    options: Quickstart,
    seed: int,
) -> dict[str, object]:
    torch.manual_seed(seed)
    student = CifarResNet(*STUDENT, CLASSES, channels=1)
    fit(student, given, _views(seed), loss, Schedule(options.epochs), seed)
    return _row(method, teacher, seed, student, test)


def _row(method: str, teacher: str, seed: int, model: nn.Module, test: ImageArrays) -> dict[str, object]:
    logits = logits_of(model, test.images)
    return {
        "method": method,
        "teacher": teacher,
        "seed": seed,
        "accuracy": accuracy(logits, test.labels),
        "ece": expected_calibration_error(logits, test.labels),
    }


def _line(row: dict[str, object]) -> str:
    teacher = "" if row["teacher"] == "none" else f" from the {row['teacher']} teacher"
    return f"  {row['method']}{teacher}, seed {row['seed']}: {row['accuracy']:.2f} %"


def _difficulty(
    teacher: FrozenTeacher, criterion: DLKDLoss, given: ImageArrays, wrong: np.ndarray
) -> dict[str, object]:
    out = teacher(given.images)
    distance = out.distance()
    level = criterion.level(distance)
    return {
        "distance": distance.tolist(),
        "level": level.tolist(),
        "temperature": criterion.temperature(level).tolist(),
        "teacher_label": out.logits.argmax(1).tolist(),
        "probe_label": out.probe_logits[0].argmax(1).tolist(),
        "wrong": wrong.tolist(),
    }
