"""All that is said of one picture, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlkd.errors import first_line
from dlkd.export import Predictor, open_predictor
from dlkd.export.predictor import most_probable
from dlkd.serve.picture import Refused, open_picture
from dlkd.serve.teacher import RunTeacher, teacher_of_run


@dataclass(frozen=True)
class Answerer:
    """A student and, where its run has one, the teacher.

    Args:
        student: what is asked.
        teacher: of its run; None for the student alone.
        notes: lines about what there is not.
        top: so many classes, the most probable first.
        max_pixels: of a picture.
    """

    student: Predictor
    teacher: RunTeacher | None
    notes: tuple[str, ...]
    top: int
    max_pixels: int

    @property
    def class_names(self) -> Sequence[str]:
        """Of the student's outputs."""
        return self.student.preprocessing.class_names

    def __call__(self, content: bytes) -> dict[str, Any]:
        """What is said of an encoded picture: ``predictions`` of the student; ``teacher``, ``probe``, ``difficulty``
        and ``temperature``, each None where it is not known.

        Raises:
            Refused: it is no picture, or a model has no answer.
        """
        try:
            image = self.student.preprocessing.image(open_picture(content, self.max_pixels))
        except (ValueError, MemoryError) as error:
            raise Refused(413, f"the picture cannot be shown to the model ({first_line(error)})") from error
        images = image.unsqueeze(0)
        logits = self.student.runner(images)
        if not bool(logits.isfinite().all()):
            raise Refused(500, "the model's logits are not finite")
        found: dict[str, Any] = {"predictions": self._best(logits)}
        if self.teacher is None:
            return {**found, "teacher": None, "probe": None, "difficulty": None, "temperature": None}
        lesson = self.teacher(images, logits)
        return {
            **found,
            "teacher": self._best(lesson.logits),
            "probe": None if lesson.probe_logits is None else self._best(lesson.probe_logits),
            "difficulty": lesson.difficulty,
            "temperature": lesson.temperature,
        }

    def _best(self, logits: Tensor) -> list[dict[str, Any]]:
        row = torch.softmax(logits.double(), dim=1)[0]
        return [{"label": k, "confidence": value} for k, value in most_probable(row, self.class_names, self.top)]


def open_answerer(
    model: Path, *, name: str | None, teacher: bool, top: int, max_pixels: int, device: torch.device
) -> Answerer:
    """The model at ``model`` (see :func:`dlkd.export.open_predictor`), and the teacher of its run if it is wanted.

    Raises:
        UserError: no such model, or a damaged one. A teacher that cannot be loaded leaves a note.
    """
    student = open_predictor(model, name=name, device=device)
    found, notes = None, ["no teacher: it was not asked for"]
    if teacher:
        folder = model if model.is_dir() else model.parent
        found, notes = teacher_of_run(folder, student.preprocessing, device)
    return Answerer(student, found, tuple(notes), top, max_pixels)
