"""Every option of ``dlkd train`` and ``dlkd distill``, typed; the defaults are the ones to start with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from dlkd.data import DataOptions, ViewOptions
from dlkd.difficulty import Criterion, ProbeNorm
from dlkd.errors import UserError
from dlkd.methods import LabelOptions, LossOptions
from dlkd.store import Storage
from dlkd.teacher import Average
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions


@dataclass(frozen=True)
class ModelOptions:
    """A model to be trained.

    Attributes:
        name: a network of ours (resnet8 … resnet110, resnet8x4, resnet32x4, wrn16_1 … wrn40_2, vgg8,
            cifar:vgg11 … cifar:vgg19, cifar:resnet50, shufflenet_v1, shufflenet_v2, mobilenet_v2, mobilenet_v1),
            a timm model (timm:NAME), torchvision:NAME, or package.module:factory.
        weights: start from these weights instead of random ones: a file, or the folder of a run. A classifier for
            another number of classes is replaced by a new one.
        pretrained: start from the published weights of a timm or torchvision name, in the same way.
        resolution: resize its input to this side; by default images are shown as they are.
    """

    name: str = "resnet20"
    weights: Path | None = None
    pretrained: bool = False
    resolution: int | None = None


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


@dataclass(frozen=True)
class RunOptions:
    """What every training run has.

    Attributes:
        out: folder of the run, new or empty.
        resume: go on with the run in that folder, with its own settings.
        overwrite: replace the run in that folder.
        force: go on although the preflight says stop.
        seed: of the initial weights, the order, the views and everything else that is random in training.
        device: auto, cpu, cuda, cuda:1, mps.
        epochs: passes over the training images; auto shows 200,000 images in all, in 15 to 100 epochs.
        early_stop: end after so many epochs in which the accuracy on the held-out images, labels as given, did not rise
            above its best; by default never. The weights are those of the last epoch all the same.
        score_on: the images that the figures at the end are of. Choices are made with held_out, which leaves the test
            images unread.
        data: images and labels.
        views: augmentation.
        label: what is learnt from the given labels.
        optim: optimisation.
        engine: precision and speed.
    """

    out: Path = Path("runs/new")
    resume: bool = False
    overwrite: bool = False
    force: bool = False
    seed: int = 0
    device: str = "auto"
    epochs: int | Literal["auto"] = "auto"
    early_stop: int | None = None
    score_on: Literal["test", "held_out"] = "test"
    data: DataOptions = field(default_factory=DataOptions)
    views: ViewOptions = field(default_factory=ViewOptions)
    label: LabelOptions = field(default_factory=LabelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.epochs != "auto" and self.epochs < 1:
            raise UserError(f"expected --epochs to be at least 1, but got {self.epochs}")
        if self.early_stop is not None and self.early_stop < 1:
            raise UserError(f"expected --early_stop to be at least 1, but got {self.early_stop}")
        if self.early_stop is not None and not (self.engine.evaluate_every and (self.data.held_out or self.data.folds)):
            raise UserError(
                "expected --data.held_out and --engine.evaluate_every above 0 with --early_stop: it looks at held-out "
                "images"
            )
        if not 0 <= self.seed < 2**63:
            raise UserError(f"expected --seed to be in [0, 2⁶³), but got {self.seed}")
        if self.resume and self.overwrite:
            raise UserError("expected --resume or --overwrite, but got both")
        if self.score_on == "held_out" and not self.data.held_out and self.data.folds is None:
            raise UserError("expected --data.held_out above 0 with --score_on held_out: there are no held-out images")
        self.data.check()
        self.views.check()
        self.optim.check()
        self.engine.check()


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Train a classifier on the given labels alone: a teacher, or the baseline without one.

    Attributes:
        model: what is trained.
    """

    model: ModelOptions = field(default_factory=ModelOptions)


@dataclass(frozen=True)
class DistillOptions(RunOptions):
    """Distil a student from a frozen teacher.

    Attributes:
        with_baseline: train the student alone as well, in OUT-baseline, and say whether the teacher was worth it.
        method: ce (no teacher), kd, dlkd or another of ``dlkd methods``; dlkd+dkd+zscore combines.
        student: what is trained.
        teacher: who teaches.
        probe: by which difficulty is measured.
        loss: settings of the method.
        feature: layers, of methods that compare such.
        store: folder in which the teacher's outputs are kept, for this and other students of the same views.
        storage: how they are kept.
    """

    with_baseline: bool = False
    method: str = "dlkd"
    student: ModelOptions = field(default_factory=ModelOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    feature: FeatureOptions = field(default_factory=FeatureOptions)
    store: Path | None = None
    storage: StorageOptions = field(default_factory=StorageOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        super().check()
        self.storage.check()
        if self.store is None and self.storage != StorageOptions():
            raise UserError("expected --store with --storage options, but got none")
        self.probe.check()
        self.teacher.check()
        self.feature.check()
        if self.teacher.batch_size is not None and self.probe.norm == "batch":
            raise UserError("expected no --teacher.batch_size with --probe.norm batch: statistics are of what is shown")
