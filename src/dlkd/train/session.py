"""One run, ready to train: what the loop and the jobs share."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dlkd.data import DataSet, FilePixels, Samples, Steps, ViewFamily
from dlkd.data.samples import Indices
from dlkd.difficulty import DifficultyLevel, DifficultyScore
from dlkd.features import LayerPairs
from dlkd.methods import Composition
from dlkd.models import InputFormat
from dlkd.store import Lesson, Lessons
from dlkd.train.diagnostics import Diagnostics
from dlkd.train.ema import WeightAverage
from dlkd.train.group import Group
from dlkd.train.layers import Taps
from dlkd.train.options import ModelOptions, RunOptions
from dlkd.train.teach import Teaching


@dataclass
class Session:
    """One run, ready to train. The teacher lives in ``lessons``: outside the student, and never in a checkpoint."""

    options: RunOptions
    fabric: Fabric
    group: Group
    """The processes that train the student together."""
    folder: Path
    data: DataSet
    size: int
    steps: Steps
    model: ModelOptions
    module: nn.Module
    """The student itself; what is saved."""
    student: nn.Module
    """The student as the loop calls it: compiled, and wrapped for precision and devices."""
    optimizer: torch.optim.Optimizer
    input_format: InputFormat
    method_name: str
    method_settings: dict[str, Any]
    method: Composition
    lessons: Lessons | None = None
    strong_lessons: Lessons | None = None
    """Of the strongly augmented views, where there are such."""
    teaching: Teaching | None = None
    layers: LayerPairs | None = None
    """Those that the method compares, if it does."""
    taps: Taps | None = None
    level: DifficultyLevel | None = None
    level_table: Tensor | None = None
    """Level of each training image averaged over its views, ``[N]``, where that is asked for."""
    average: WeightAverage | None = None
    quiet: bool = False
    remarks: list[str] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    by_level: list[dict[str, Any]] = field(default_factory=list)
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def __post_init__(self) -> None:
        self.diagnostics = Diagnostics(self.fabric.device)

    @property
    def family(self) -> ViewFamily:
        """The training views."""
        return self.steps.family

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        assert self.options.epochs != "auto"
        return self.options.epochs

    @property
    def stalled(self) -> bool:
        """Is it time to end, since nothing was gained for as long as the user would wait?"""
        rows = [row for row in self.history if row.get("held_out_accuracy") is not None]
        if self.options.early_stop is None or not rows:
            return False
        best = max(rows, key=lambda row: row["held_out_accuracy"])  # the first of equal ones
        return bool(rows[-1]["epoch"] - best["epoch"] >= self.options.early_stop)

    @property
    def opens_files(self) -> bool:
        """Are the images opened one by one, and brought to one size?"""
        return isinstance(self.data.train.pixels, FilePixels)

    @property
    def scored(self) -> Samples:
        """The images that the figures at the end are of."""
        return self.data.part(self.options.score_on)

    @property
    def title(self) -> str:
        """Method and student in words."""
        return f"{self.method_name} → {self.model.name}"

    @property
    def workers(self) -> int:
        """Processes that prepare images."""
        if self.options.data.workers is not None:
            return self.options.data.workers
        on_device = self.fabric.device.type != "cpu"
        if self.opens_files or (on_device and self.steps.one_by_one):
            # Launchers give each process one thread, whatever its share of the processors is.
            cores = torch.get_num_threads() if self.group.size == 1 else (os.cpu_count() or 1) // self.group.here
            return max(1, cores - 1)
        return 0

    @property
    def channels_last(self) -> bool:
        """The memory format of student and teacher."""
        channels = self.data.train.pixels.channels
        return self.options.engine.uses_channels_last(channels, self.fabric.device, self.module)

    def shown(self, images: Tensor) -> Tensor:
        """What the student sees of images in [0, 1]: in its input format and the memory format of the run."""
        seen = self.input_format(images)
        return seen.contiguous(memory_format=torch.channels_last) if self.channels_last else seen

    @property
    def score(self) -> DifficultyScore:
        """What difficulty is in this run, whether the method looks at it or only its figures do."""
        return self.method.score or DifficultyScore()

    def difficulty(self, lesson: Lesson, target: Tensor, ids: Indices) -> Tensor:
        """The difficulty ``[B]`` of the views of a lesson.

        Args:
            lesson: what the teacher says about them.
            target: their labels, for a score that looks at them.
            ids: the samples' numbers, for messages.

        Raises:
            UserError: teacher or probe gave logits that are not finite.
        """
        assert self.teaching is not None
        weighted = self.data.train.weights is not None
        return self.teaching.difficulty(lesson, self.score, target, ids, weighted=weighted)

    def evaluates(self, epoch: int) -> bool:
        """Are held-out figures due after ``epoch``?"""
        every = self.options.engine.evaluate_every
        return bool(every) and (epoch % every == 0 or epoch == self.epochs)

    def evaluated(self) -> nn.Module:
        """The student that figures are of: with averaged weights where there are such."""
        if self.average is None:
            return self.module
        averaged = copy.deepcopy(self.module)
        averaged.load_state_dict(self.average.weights())
        return averaged

    def say(self, text: str) -> None:
        """A line for the user."""
        if not self.quiet:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A line that is kept with the run as well, and not held back where much is: it says what went wrong."""
        self.remarks.append(text)
        if self.group.first:
            print(f"note: {text}", flush=True)
