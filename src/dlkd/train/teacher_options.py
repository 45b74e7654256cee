"""Options of whoever teaches: teachers, what is taken from their layers, the probe, and the store of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from dlkd.difficulty import Criterion, ProbeNorm
from dlkd.errors import UserError
from dlkd.store import Storage
from dlkd.teacher import Average


class TeacherSource(NamedTuple):
    """Where one teacher comes from; see :class:`TeacherOptions`."""

    name: str | None
    weights: Path | None
    classes: Path | None


@dataclass(frozen=True)
class TeacherOptions:
    """The frozen teacher, or several of them, whose mean teaches.

    Attributes:
        name: as for the student; not needed for weights from a run of ours. For several teachers a list as long as
            that of their weights (null for a run of ours), or one name for all.
        weights: its trained weights: a file, or the folder of a ``dlkd train`` run; a list for several teachers.
        pretrained: take the published weights of a timm or torchvision name.
        average: of several teachers, the mean of their logits, or of their probabilities.
        classes: file with the names of its outputs in order, one a line or as a JSON list, where they are more than
            those of the data or in another order; a run of ours brings its own. A list for several teachers.
        seen: which images it was trained on: all training images (train), all but the held-out part (kept),
            none of them (none), or unknown; auto reads it from the teacher's own run.
        labels: which labels it was trained on: clean (an oracle where labels are noisy), given, or unknown;
            auto reads it from the teacher's own run.
        resolution: resize its input to this side; by default images are shown as it was trained on, or as they are.
        fold: fold batch normalisation into the convolutions: the same function up to rounding, and faster.
        precision: of its arithmetic.
        batch_size: images that it is shown at once, to save memory; by default those of a batch.
    """

    name: list[str | None] | str | None = None
    weights: list[Path] | Path | None = None
    pretrained: bool = False
    average: Average = "logits"
    classes: list[Path | None] | Path | None = None
    seen: Literal["auto", "train", "kept", "none", "unknown"] = "auto"
    labels: Literal["auto", "clean", "given", "unknown"] = "auto"
    resolution: int | None = None
    fold: bool = True
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_size: int | None = None

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.batch_size is not None and self.batch_size < 1:
            raise UserError(f"expected --teacher.batch_size to be at least 1, but got {self.batch_size}")

    def each(self) -> list[TeacherSource]:
        """Where each teacher comes from.

        Raises:
            UserError: lists of different lengths, or an empty one.
        """
        lists = {
            name: value for name in ("weights", "name", "classes") if isinstance(value := getattr(self, name), list)
        }
        of, longest = next(iter(lists.items()), ("weights", [None]))
        for name, value in lists.items():
            if not value:
                raise UserError(f"expected --teacher.{name} to be a list of at least one, but got an empty one")
            if len(value) != len(longest):
                raise UserError(
                    f"expected --teacher.{name} to be one, or a list as long as --teacher.{of} ({len(longest)}), "
                    f"but got {len(value)}"
                )
        if "weights" not in lists and self.weights is not None and len(longest) > 1:
            raise UserError(
                f"expected --teacher.weights to be a list of {len(longest)}, as --teacher.{of} is, but got one"
            )
        several = (
            [value] * len(longest) if not isinstance(value, list) else value
            for value in (self.name, self.weights, self.classes)
        )
        return [TeacherSource(*each) for each in zip(*several, strict=True)]


@dataclass(frozen=True)
class FeatureOptions:
    """The inner layers that fitnet, at and rkd compare, one by one.

    Attributes:
        student_layers: paths of layers as in ``model.named_modules()``, like layer3, blocks.5, or 4 in a plain
            Sequential; one, or a list. By default what was published, in the stages of the model.
        teacher_layers: as many of the teacher.
    """

    student_layers: list[str | int] | str | int | None = None
    teacher_layers: list[str | int] | str | int | None = None

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        for name in ("student_layers", "teacher_layers"):
            if getattr(self, name) == []:
                raise UserError(f"expected --feature.{name} to be a list of at least one, but got an empty one")

    def student(self) -> list[str] | None:
        """The student's layers; None to choose them."""
        return _listed(self.student_layers)

    def teacher(self) -> list[str] | None:
        """The teacher's."""
        return _listed(self.teacher_layers)


def _listed(value: list[str | int] | str | int | None) -> list[str] | None:
    if value is None:
        return None
    return [str(item) for item in (value if isinstance(value, list) else [value])]


@dataclass(frozen=True)
class ProbeOptions:
    """The pruned copy of the teacher, by which difficulty is measured.

    Attributes:
        sparsity: share of the weights set to zero, in [0, 1); a list makes several probes, whose mean distance
            counts; auto takes the largest that keeps the share "keep" of the teacher's accuracy on held-out
            images that the teacher has not seen.
        keep: see sparsity auto.
        scope: rank all weights together (global) or in each layer.
        criterion: set the smallest weights to zero (l1) or random ones, or take out whole channels of the smallest mean
            (channels), which makes the probe cheaper.
        masks: number of probes with different random masks, for criterion random.
        norm: batch norm of the probe: the teacher's statistics (eval), those of the batch, or recalibrated
            on training images.
        reference: at most so many training views calibrate the rank of a distance.
        level_views: average the level of an image over so many of its views; 0 takes each view's own.
    """

    sparsity: float | list[float] | Literal["auto"] = 0.3
    keep: float = 0.95
    scope: Literal["global", "layer"] = "global"
    criterion: Criterion = "l1"
    masks: int = 1
    norm: ProbeNorm = "eval"
    reference: int = 50_000
    level_views: int = 0

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        sparsities = self.sparsity if isinstance(self.sparsity, list) else [self.sparsity]
        for s in sparsities:
            if s != "auto" and not (isinstance(s, float | int) and 0 <= s < 1):
                raise UserError(f"expected --probe.sparsity to be in [0, 1) or auto, but got {s}")
        if not sparsities or len(set(sparsities)) < len(sparsities):
            raise UserError(f"expected different values in --probe.sparsity, but got {sparsities}")
        if not 0 < self.keep <= 1:
            raise UserError(f"expected --probe.keep to be in (0, 1], but got {self.keep}")
        for name, least in (("masks", 1), ("reference", 1), ("level_views", 0)):
            if getattr(self, name) < least:
                raise UserError(f"expected --probe.{name} to be at least {least}, but got {getattr(self, name)}")
        if self.sparsity == "auto" and (self.criterion != "l1" or self.norm != "eval"):
            raise UserError("expected --probe.criterion l1 and --probe.norm eval with --probe.sparsity auto")
        if self.masks > 1 and self.criterion != "random":
            raise UserError("expected --probe.criterion random for several masks: the smallest weights are the same")


@dataclass(frozen=True)
class StorageOptions:
    """How a store keeps the teacher's outputs.

    Attributes:
        dtype: of logits, in a new store: fp16 or fp32; auto is fp16 there, and what a store has already.
        top_k: keep so many of the largest logits of each sample; the others share what is left of its probability.
        probe_logits: keep the logits of the probes as well, for r2kd and probemix.
        views: view numbers that the store is built for; later epochs show them again. By default "store build" makes
            one for each epoch, and "distill" adds what a run needs.
        memory: MB of the store that are mapped at once.
    """

    dtype: Literal["auto", "fp16", "fp32"] = "auto"
    top_k: int | None = None
    probe_logits: bool = False
    views: int | None = None
    memory: int = 1024

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        for name in ("top_k", "views", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"expected --storage.{name} to be at least 1, but got {value}")

    def form(self, kept: Storage | None) -> Storage | None:
        """The form that was asked for, None for any, of a store that has the form ``kept`` or is new."""
        if self.dtype == "auto" and self.top_k is None:
            return None
        if self.dtype == "auto":
            return Storage("fp16" if kept is None else kept.dtype, self.top_k)
        return Storage(self.dtype, self.top_k)
