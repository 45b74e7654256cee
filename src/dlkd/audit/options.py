"""Every option of ``dlkd audit``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dlkd.data import DataOptions, ViewOptions
from dlkd.errors import UserError
from dlkd.methods import LabelOptions
from dlkd.report.table import check_table
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions
from dlkd.train.options import ModelOptions, TrainOptions
from dlkd.train.teacher_options import ProbeOptions, TeacherOptions


@dataclass(frozen=True)
class AuditOptions:
    """Find wrong labels and hard images among the training images.

    With a teacher that has not seen them, or with --folds: teachers trained on the given labels of all other parts.

    Attributes:
        out: folder of the audit; the same command goes on with what is there.
        overwrite: begin anew.
        folds: train so many teachers, each on all parts but one, and ask each about its own part.
        heads_only: of each teacher train the classifier alone, on what a pretrained network (--model) says of the
            images, which is computed once.
        augmented: ask about so many augmented views beside the plain image, and average.
        distance_temperature: softmax temperature of the distance.
        table: csv or parquet.
        thumbnails: so many of the most suspicious images have a picture in the contact sheet.
        thumbnail_side: of those pictures, in pixels.
        seed: of the teachers of the folds, and of the augmented views.
        device: auto, cpu, cuda, cuda:1, mps.
        epochs: of the teachers of the folds.
        data: images and labels; all training images are audited, held-out ones too.
        views: augmentation.
        label: the label term of the teachers of the folds.
        model: what they are.
        optim: their optimisation.
        engine: precision and speed.
        teacher: who judges, where no folds are asked for. With heads_only its "seen" alone, which then says what the
            network was trained on.
        probe: the pruned copy.
    """

    out: Path = Path("runs/audit")
    overwrite: bool = False
    folds: int | None = None
    heads_only: bool = False
    augmented: int = 0
    distance_temperature: float = 0.25
    table: Literal["csv", "parquet"] = "csv"
    thumbnails: int = 5000
    thumbnail_side: int = 64
    seed: int = 0
    device: str = "auto"
    epochs: int = 15
    data: DataOptions = field(default_factory=DataOptions)
    views: ViewOptions = field(default_factory=ViewOptions)
    label: LabelOptions = field(default_factory=LabelOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    optim: OptimOptions = field(default_factory=OptimOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    teacher: TeacherOptions = field(default_factory=TeacherOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        self.data.check()
        self.probe.check()
        of_network = TeacherOptions(seen=self.teacher.seen) if self.heads_only else TeacherOptions()
        given = self.teacher != of_network
        if self.folds is None and not given:
            raise UserError(
                "expected --teacher.weights, a teacher that has not seen these images, or --folds 5 to train some on "
                "the given labels, but got neither"
            )
        if self.folds is not None and given:
            raise UserError("expected --folds or --teacher, but got both: the teachers of the folds are the judges")
        if self.folds is not None and self.folds < 2:
            raise UserError(f"expected --folds to be at least 2, but got {self.folds}")
        if self.data.folds is not None:
            raise UserError("expected --folds instead of --data.folds and --data.fold: all parts are audited")
        if self.data.cleaned is not None or self.data.unlabelled is not None or self.data.labelled < 1:
            raise UserError(
                "expected no --data.cleaned, --data.unlabelled or --data.labelled: an audit looks at labels as they "
                "were given"
            )
        if self.heads_only and (self.folds is None or not (self.model.pretrained or self.model.weights)):
            raise UserError("expected --folds and --model.weights or --model.pretrained with --heads_only")
        if self.heads_only and self.probe.sparsity == "auto":
            raise UserError("expected a number as --probe.sparsity with --heads_only, but got auto")
        for name, least in (("augmented", 0), ("thumbnails", 0), ("thumbnail_side", 8), ("epochs", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"expected --{name} to be at least {least}, but got {getattr(self, name)}")
        if not 0 < self.distance_temperature < float("inf"):
            raise UserError(f"expected --distance_temperature to be positive, but got {self.distance_temperature}")
        check_table(self.table)
        self.fold(0).check()

    def fold(self, number: int) -> TrainOptions:
        """The run that trains the teacher of a fold."""
        data = self.data
        if self.folds is not None:
            # The part is what is held out, whatever the share; none at all is refused by a run that is scored on it.
            data = replace(data, folds=self.folds, fold=number, held_out=data.held_out or DataOptions().held_out)
        return TrainOptions(
            out=self.out / "folds" / str(number),
            seed=self.seed,
            device=self.device,
            epochs=self.epochs,
            score_on="held_out" if self.folds is not None else "test",
            data=data,
            views=self.views,
            label=self.label,
            optim=self.optim,
            engine=replace(self.engine, tensorboard=False, track=None, report=False, evaluate_every=0),
            model=self.model,
        )
