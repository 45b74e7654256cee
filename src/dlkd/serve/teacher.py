"""The teacher of a finished run, with its probes, its level and its temperatures, asked about one picture."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlkd.data import load_data
from dlkd.difficulty import DifficultyLevel, DifficultyScore
from dlkd.errors import UserError, first_line
from dlkd.export import Preprocessing
from dlkd.export.student import teacher_options
from dlkd.jobs.card import CONFIG
from dlkd.jobs.of_run import data_of_run, images_of_run
from dlkd.methods import Composition, LossOptions, Signals, make_method
from dlkd.methods.temperatures import TargetTemperature, TemperatureByDifficulty
from dlkd.pages.plain_yaml import read_plain
from dlkd.pages.typed import typed
from dlkd.regular import read_regular
from dlkd.run_folder import CARD_BYTES, MARKER
from dlkd.serve.picture import Refused
from dlkd.teacher import TeacherOutput
from dlkd.train.checkpoint import CURRENT, load_checkpoint
from dlkd.train.engine import EngineOptions
from dlkd.train.teach import Teaching, make_teaching
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions
from dlkd.train.teachers import load_teacher


class Lesson(NamedTuple):
    """What the teacher says of one picture."""

    logits: Tensor
    """``[1, C]``."""
    probe_logits: Tensor | None
    """``[1, C]``, the mean over the probes."""
    difficulty: dict[str, Any] | None
    """``score`` of the run, its ``value``, the ``distance`` of teacher and probe, and the ``level``; None for what is
    not known."""
    temperature: dict[str, float] | None
    """Of ``teacher`` and ``student``."""


class RunTeacher:
    """Teacher and probes as ``dlkd distill`` made them.

    Args:
        teaching: both of them.
        method: of the run, with its learned temperature where it has one.
        level: from a difficulty to its rank; None where the run knows none.
    """

    def __init__(self, teaching: Teaching, method: Composition, level: DifficultyLevel | None) -> None:
        self.teaching, self.method, self.level = teaching, method, level
        self.score = method.score or DifficultyScore()
        self.distance = DifficultyScore("distance", self.score.temperature)

    @property
    def ranks(self) -> bool:
        """Is a level the rank among the training views?"""
        return self.level is not None and self.level.mode == "rank"

    def __call__(self, images: Tensor, student_logits: Tensor) -> Lesson:
        """The lesson of one image ``[1, channels, H, W]`` in [0, 1], whose student says ``[1, C]``.

        Raises:
            Refused: teacher or probe gave logits that are not finite (500).
        """
        out = self.teaching.teacher(images.to(self.teaching.teacher.device))
        out = TeacherOutput(out.logits.cpu(), tuple(p.cpu() for p in out.probe_logits), out.probe_names)
        if not all(bool(x.isfinite().all()) for x in (out.logits, *out.probe_logits)):
            raise Refused(500, "the logits of the teacher or its probe are not finite")
        distance = out.difficulty(self.distance) if out.probe_logits else None
        known = self.score.needs == "teacher" or (self.score.needs == "probe" and bool(out.probe_logits))
        value = out.difficulty(self.score) if known else None
        level = None if self.level is None or value is None else self.level(value)
        figures = {"value": value, "distance": distance, "level": level}
        difficulty = {"score": self.score.name, **{k: None if x is None else float(x) for k, x in figures.items()}}
        return Lesson(
            out.logits,
            out.mean_probe_logits(),
            None if value is None and distance is None else difficulty,
            temperature_of(self.method, student_logits, out, level),
        )


def temperature_of(
    method: Composition, student_logits: Tensor, out: TeacherOutput, level: Tensor | None
) -> dict[str, float] | None:
    """At which temperatures ``method`` teaches one image ``[1, C]``, their means over the classes.

    None where it has none, or where they depend on more than the picture: on its label, or on others of a batch.
    """
    rule = method.temperature
    of_level = isinstance(rule, TemperatureByDifficulty)
    if rule is None or isinstance(rule, TargetTemperature) or (of_level and level is None):
        return None
    if getattr(rule, "shuffled", False) or (method.uses_probe and not out.probe_logits):
        return None
    label = torch.zeros(1, dtype=torch.long)
    signals = Signals(student_logits, out.logits, label, level, out.mean_probe_logits())
    with torch.no_grad():
        found = rule(signals if method.transform is None else method.transform(signals))
    return {"teacher": float(found.teacher.mean()), "student": float(found.student.mean())}


def teacher_of_run(
    folder: Path, preprocessing: Preprocessing, device: torch.device
) -> tuple[RunTeacher | None, list[str]]:
    """The teacher by the run's own settings, and lines about what there is not.

    Args:
        folder: of the run.
        preprocessing: of its student, whose images the teacher is shown.
        device: of teacher and probes.
    """
    options = teacher_options(folder)
    if isinstance(options, str):
        return None, [f"no teacher: {options}"]
    try:
        return _loaded(folder, options, preprocessing, device)
    except Exception as error:  # a stranger's run and teacher raise whatever they like
        return None, [f"no teacher: {first_line(error):.300}"]


def _loaded(
    folder: Path, options: TeacherOptions, preprocessing: Preprocessing, device: torch.device
) -> tuple[RunTeacher | None, list[str]]:
    config = read_plain(folder / CONFIG)
    probe, name = typed(ProbeOptions, config["probe"]), str(config["method"])
    if ":" in name:
        return None, [f"no teacher: the method of the run is {name:.80}, which would be imported and run"]
    classes = len(preprocessing.class_names)
    method = make_method(name, typed(LossOptions, config["loss"]), classes)
    if not method.needs_teacher:
        return None, [f"no teacher: the run had none, by its method {name}"]
    asked = images_of_run(folder)
    if probe.sparsity == "auto" or probe.norm == "recalibrated":  # made by what its training images and labels were
        asked = dataclasses.replace(data_of_run(folder), download=False)
    data = load_data(asked)
    if tuple(data.train.class_names) != preprocessing.class_names:
        raise UserError("the classes of its images are others now")
    alone = probe.norm != "batch"
    teaching = make_teaching(
        options,
        probe,
        EngineOptions(),
        data,
        load_teacher(options, data, preprocessing.channels),
        size=preprocessing.crop[0],
        with_probes=alone,
        device=device,
    )
    _check_same(folder, teaching, method)
    notes = [] if alone else ["no probe: that of the run goes by the statistics of a batch"]
    level, why = _restored(folder, method)
    return RunTeacher(teaching, method, level), [*notes, *why]


def _check_same(folder: Path, teaching: Teaching, method: Composition) -> None:
    """Refuse a teacher that is not the one of the run card.

    Raises:
        UserError: it is not, or its probes are not.
    """
    card = json.loads(read_regular(folder / MARKER, CARD_BYTES)).get("teacher", {})
    now = json.loads(json.dumps(teaching.identity))
    if card.get("teacher") != now["teacher"]:
        raise UserError("the weights of its teacher are others now")
    if method.needs_probe and teaching.specs and card.get("probes") != now["probes"]:
        raise UserError("the probes of its teacher would be others now")


def _restored(folder: Path, method: Composition) -> tuple[DifficultyLevel | None, list[str]]:
    """The level of the run's reference distances, and the learned temperature put into ``method``; and what is
    missing."""
    score, rule, level = method.score or DifficultyScore(), method.temperature, method.level
    if score.needs == "label":
        return None, [f"no level and no temperature: difficulty by {score.name} needs a label"]
    if level is not None and level.mode == "batch":
        return None, ["no level and no temperature: this run ranks an image within its batch"]
    notes = ["no temperature: this run gives each image that of another"] if getattr(rule, "shuffled", False) else []
    try:
        found, why = load_checkpoint(folder), f"{CURRENT} of the run is not there"
    except UserError as error:
        found, why = None, str(error)
    if found is None:
        if isinstance(rule, nn.Module) and any(True for _ in rule.parameters()):
            method.temperature = None
            notes.append(f"no temperature, which was learned: {why}")
        if level is not None and level.mode == "absolute":
            return level, notes
        return None, [*notes, f"no level: {why}"]
    if isinstance(rule, nn.Module):
        start = "temperature."
        state = found.state["method"]
        rule.load_state_dict({k.removeprefix(start): v for k, v in state.items() if k.startswith(start)})
    if found.state["level"] is None:
        return None, [*notes, "no level: the run kept no reference distances, which its method does not look at"]
    level = level or DifficultyLevel()
    level.load_state_dict(found.state["level"])
    return level, notes
