"""Every option of ``dlkd train`` and ``dlkd distill``, typed; the defaults are the ones to start with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlkd.data import DataOptions, ViewOptions
from dlkd.errors import UserError
from dlkd.methods import LabelOptions, LossOptions
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions
from dlkd.train.teacher_options import FeatureOptions, ProbeOptions, StorageOptions, TeacherOptions


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
