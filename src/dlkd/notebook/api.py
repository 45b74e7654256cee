"""``dlkd.distill`` and ``dlkd.train_classifier``: the command line's jobs for names, files, modules and data sets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import nn

from dlkd.data import DataOptions
from dlkd.errors import UserError
from dlkd.jobs.run import run as run_job
from dlkd.models import InputFormat
from dlkd.notebook.given import given_data, given_model
from dlkd.notebook.run import Run
from dlkd.pages.places import data_place, model_place, teacher_place
from dlkd.train.options import DistillOptions, ModelOptions, RunOptions, TrainOptions
from dlkd.train.teacher_options import TeacherOptions

Model = nn.Module | str | Path
Options = TypeVar("Options", bound=RunOptions)


def distill(
    teacher: Model,
    student: Model,
    train_data: Any,
    test_data: Any = None,
    *,
    method: str | None = None,
    epochs: int | Literal["auto"] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    with_baseline: bool = False,
    class_names: tuple[str, ...] | None = None,
    teacher_format: InputFormat | None = None,
    student_format: InputFormat | None = None,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    quiet: bool = False,
    options: DistillOptions | None = None,
) -> Run:
    """Distil ``student`` from the frozen ``teacher``; the same run as that of ``dlkd distill``.

    Args:
        teacher: a trained module; the folder of a run, or a file of weights (with a name in ``options``); or a name,
            whose published weights are taken: ``timm:NAME``, ``torchvision:NAME``, ``hf:NAME``.
        student: a module, trained on from the weights it has (a copy of it is, the module stays); or a name.
        train_data: a folder of images, one sub-folder a class; a table, an ``.npz`` file, the name of a data set,
            :class:`dlkd.DataOptions`; or a map-style data set of (image, label) without augmentation or normalisation.
        test_data: a data set of the same kind; by default a share of the others is set aside.
        method: of ``dlkd methods``; ``dlkd`` by default.
        epochs: by default enough to show 200,000 images, but 15 to 100.
        seed: of everything that is random in training.
        out: folder of the run, new or empty; ``runs/new`` by default.
        with_baseline: train the student alone as well, and compare.
        class_names: of a data set that does not say them.
        teacher_format, student_format: what modules want to see; by default images in [0, 1] as they are. Names and
            runs know theirs.
        resume, overwrite, force: go on with the run in ``out``, replace it, or go on although the preflight says stop.
        quiet: print nothing.
        options: everything else; what is given beside it wins.

    Raises:
        UserError: whatever the user can mend, in one line.
        Interrupted: the run was told to stop and can be resumed.
    """
    base = options or DistillOptions()
    found = replace(
        base,
        teacher=_teacher(teacher, base.teacher, teacher_format),
        student=_model(student, base.student, student_format, "student"),
        method=base.method if method is None else method,
        with_baseline=with_baseline or base.with_baseline,
    )
    found = _run_options(found, train_data, test_data, class_names, epochs, seed, out)
    return _run(found, resume=resume, overwrite=overwrite, force=force, quiet=quiet)


def train_classifier(
    model: Model,
    train_data: Any,
    test_data: Any = None,
    *,
    epochs: int | Literal["auto"] | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    class_names: tuple[str, ...] | None = None,
    model_format: InputFormat | None = None,
    resume: bool = False,
    overwrite: bool = False,
    force: bool = False,
    quiet: bool = False,
    options: TrainOptions | None = None,
) -> Run:
    """Train a classifier on labels alone, as ``dlkd train`` does: a teacher, or a baseline.

    Args and errors are those of :func:`distill`.
    """
    base = options or TrainOptions()
    found = replace(base, model=_model(model, base.model, model_format, "model"))
    found = _run_options(found, train_data, test_data, class_names, epochs, seed, out)
    return _run(found, resume=resume, overwrite=overwrite, force=force, quiet=quiet)


def _run(options: RunOptions, *, resume: bool, overwrite: bool, force: bool, quiet: bool) -> Run:
    options = replace(
        options,
        resume=resume or options.resume,
        overwrite=overwrite or options.overwrite,
        force=force or options.force,
    )
    run_job(options, quiet=quiet)
    return Run(options.out)


def _run_options(
    base: Options,
    train_data: Any,
    test_data: Any,
    class_names: tuple[str, ...] | None,
    epochs: int | Literal["auto"] | None,
    seed: int | None,
    out: str | Path | None,
) -> Options:
    return replace(
        base,
        data=_data(train_data, test_data, None if class_names is None else tuple(class_names), base.data),
        epochs=base.epochs if epochs is None else epochs,
        seed=base.seed if seed is None else seed,
        out=base.out if out is None else Path(out),
    )


def _data(train: Any, test: Any, class_names: tuple[str, ...] | None, base: DataOptions) -> DataOptions:
    if isinstance(train, DataOptions | str | Path):
        if test is not None or class_names is not None:
            raise UserError(
                "expected test_data and class_names with a data set of (image, label) alone: a folder or a table says "
                "itself which images are for testing, and what they are called"
            )
        if isinstance(train, DataOptions):
            return train
        place = data_place(str(train), "train_data")
        return replace(base, name=place["name"], root=Path(place.get("root", base.root)))
    return replace(base, name=given_data(train, test, class_names))


def _model(model: Model, base: ModelOptions, form: InputFormat | None, what: str) -> ModelOptions:
    if isinstance(model, nn.Module):
        return replace(base, name=given_model(model, form, what))
    _check_format(form, what)
    place = model_place(str(model), what)
    if "name" in place:
        return replace(base, name=place["name"])
    return replace(base, weights=Path(place["weights"]))


def _teacher(model: Model, base: TeacherOptions, form: InputFormat | None) -> TeacherOptions:
    if isinstance(model, nn.Module):
        return replace(base, name=given_model(model, form, "teacher"), weights=None, pretrained=True)
    _check_format(form, "teacher")
    place = teacher_place(str(model), "teacher")
    if "weights" in place:
        return replace(base, weights=Path(place["weights"]))
    return replace(base, name=place["name"], pretrained=base.weights is None)


def _check_format(form: InputFormat | None, what: str) -> None:
    if form is not None:
        raise UserError(f"expected {what}_format with a module alone: names and runs know theirs")
