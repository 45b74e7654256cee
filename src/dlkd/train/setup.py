"""The `setup` before `fit`: everything that the loop needs, put together from the options."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlkd.data import (
    DataSet,
    FilePixels,
    Steps,
    ViewOptions,
    load_data,
    strong_family,
    view_family,
)
from dlkd.difficulty import DifficultyLevel
from dlkd.errors import UserError
from dlkd.features import FeatureTap
from dlkd.methods import Composition, make_method, resolve_loss
from dlkd.models import InputFormat, default_input_format, load_initial
from dlkd.train.auto import settled
from dlkd.train.device import make_fabric
from dlkd.train.ema import WeightAverage
from dlkd.train.group import Group
from dlkd.train.layers import Taps, check_layers, connect_layers, describe
from dlkd.train.lessons import connect_lessons
from dlkd.train.optim import make_optimizer
from dlkd.train.options import DistillOptions, ModelOptions, RunOptions, TrainOptions
from dlkd.train.session import Session
from dlkd.train.teach import make_teaching
from dlkd.train.teacher_options import TeacherOptions
from dlkd.train.teachers import LoadedTeacher, image_side, load_teacher
from dlkd.train.unlabelled import check_unlabelled


def make_session(options: RunOptions, *, quiet: bool = False) -> Session:
    """Read data and teacher, build student, method and optimizer. Nothing is written.

    Raises:
        UserError: whatever is wrong with the options or the files, in one line.
    """
    options.check()
    if isinstance(options, DistillOptions) and options.probe.level_views and options.loss.scale == "mean":
        raise UserError(
            "expected --loss.scale per_sample or none with --probe.level_views: the mean of T² is that of single views"
        )
    if options.engine.threads is not None:
        torch.set_num_threads(options.engine.threads)
    fabric = make_fabric(options)
    group = Group(fabric)
    if group.size > 1 and isinstance(options, DistillOptions) and options.probe.norm == "batch":
        raise UserError(
            f"expected --probe.norm eval or recalibrated with {group.size} processes: by statistics of the batch a "
            "distance depends on how many images a process has"
        )
    data = load_data(options.data, sealed=options.score_on == "held_out")
    if options.early_stop is not None and data.held_out is None:
        raise UserError(
            "expected held-out images with --early_stop, but there are too few images for any; give a larger "
            "--data.held_out, or leave --early_stop out"
        )
    options = settled(options, len(data.train), fabric.device)
    assert options.optim.batch_size != "auto"
    distill = options if isinstance(options, DistillOptions) else DistillOptions(method="ce")
    settings = resolve_loss(distill.method, distill.loss)
    torch.default_generator.manual_seed(options.seed)  # a learned temperature may begin at random weights
    classes, samples = len(data.train.class_names), len(data.train)
    method = make_method(distill.method, distill.loss, classes, label=options.label, samples=samples).to(fabric.device)
    check_unlabelled(data.train, method, distill.method)
    check_layers(distill, method)
    channels = data.train.pixels.channels
    loaded = load_teacher(distill.teacher, data, channels) if method.needs_teacher else None
    model = options.model if isinstance(options, TrainOptions) else distill.student
    student_format = input_format_of(model, data, channels)
    size = _side(options, data, channels, loaded) or student_format.resolution or 224
    if isinstance(data.train.pixels, FilePixels):
        student_format = dataclasses.replace(student_format, resolution=model.resolution)
    views = _with_strong(options.views, method)
    family = view_family(views, data, options.seed, size)
    strong = strong_family(views, data, options.seed, size)
    parts = options.optim.accumulate
    batch_size = options.optim.batch_size * parts
    steps = Steps(family, batch_size, group.rank, group.size, strong, parts).to(fabric.device)
    prefix = "--model." if isinstance(options, TrainOptions) else "--student."
    module, said = make_student(model, data, channels, options.seed, prefix)
    layers = None
    if loaded is not None and method.features is not None:
        layers = connect_layers(distill, method.features, (module, student_format), loaded, data.train, size)
        method.to(fabric.device)
    if options.engine.uses_channels_last(channels, fabric.device, module):
        module = module.to(memory_format=torch.channels_last)
    wrapped: Any = torch.compile(module) if options.engine.compile else module
    fused = options.engine.uses_fused(fabric.device)
    with group.in_one_line():
        student, optimizer = fabric.setup(wrapped, make_optimizer(module, options.optim, method.parameters(), fused))
    session = Session(
        options=options,
        fabric=fabric,
        group=group,
        folder=options.out,
        data=data,
        size=size,
        steps=steps,
        model=model,
        module=module,
        student=student,
        optimizer=optimizer,
        input_format=student_format,
        method_name=distill.method,
        method_settings=settings,
        method=method,
        layers=layers,
        quiet=quiet or not group.first,
        remarks=[*data.remarks, *([said] if said else [])],
    )
    if group.size > 1 and any(isinstance(m, _BatchNorm) for m in module.modules()):
        session.remarks.append(
            f"batch norms see the {steps.share} images of their own process, of {group.size}; the statistics that are "
            "kept are those of the first"
        )
    if options.optim.ema is not None:
        session.average = WeightAverage(module, options.optim.ema)
    if loaded is not None:
        _add_teacher(session, distill, loaded)
    return session


def _side(options: RunOptions, data: DataSet, channels: int, loaded: LoadedTeacher | None) -> int | None:
    """Of images that come from files: as asked for, or the teacher's.

    A teacher that is named though the method does not ask it counts too: the student without one would see other
    images than those that it is compared with.
    """
    files, asked = isinstance(data.train.pixels, FilePixels), options.data.image_size
    if loaded is None and files and asked is None and isinstance(options, DistillOptions):
        named = options.teacher != TeacherOptions()
        loaded = load_teacher(options.teacher, data, channels) if named else None
    return asked if loaded is None else image_side(options.data, *loaded.members)


def _with_strong(views: ViewOptions, method: Composition) -> ViewOptions:
    """A method of two views gets a strong one unless it was told which."""
    if views.strong != "auto":
        return views
    return dataclasses.replace(views, strong="randaugment" if method.two_views else "none")


def _add_teacher(session: Session, distill: DistillOptions, loaded: LoadedTeacher) -> None:
    device = session.fabric.device
    # A store keeps distances, so that methods that need them can share it with methods that do not.
    with_probes = session.method.needs_probe or distill.store is not None
    heard = [] if session.layers is None else [stage.path for stage in session.layers.teacher]
    session.teaching = make_teaching(
        distill.teacher,
        distill.probe,
        distill.engine,
        session.data,
        loaded,
        size=session.size,
        with_probes=with_probes,
        device=device,
        tapped=heard,
    )
    session.remarks += session.teaching.remarks
    session.level = session.method.level or (DifficultyLevel().to(device) if with_probes else None)
    if session.layers is not None:
        # Folding has put other layers into the teacher, and torch.compile has not looked at the student yet.
        session.taps = Taps(
            FeatureTap(session.module, [stage.path for stage in session.layers.student]),
            FeatureTap(loaded.members[0].module, heard),
        )
        session.remarks.append(describe(session.layers))
    connect_lessons(session, distill)


def make_student(model: ModelOptions, data: DataSet, channels: int, seed: int, prefix: str) -> tuple[nn.Module, str]:
    """The student with the initial weights of ``seed`` or with given ones, and what there is to say of them."""
    classes = len(data.train.class_names)
    torch.default_generator.manual_seed(seed)
    try:
        module, left_out = load_initial(
            model.name,
            classes,
            channels=channels,
            weights=model.weights,
            pretrained=model.pretrained,
            prefix=prefix,
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    if left_out is None:
        return module, ""
    return module, f"{model.name} begins with given weights, but for their classifier of {left_out} classes"


def input_format_of(model: ModelOptions, data: DataSet, channels: int) -> InputFormat:
    try:
        known = default_input_format(model.name, len(data.train.class_names), channels)
        if isinstance(data.train.pixels, FilePixels) and model.resolution is None:
            return known
        # Small images are shown as they are, not blown up to what a timm model was published for.
        return dataclasses.replace(known, resolution=model.resolution)
    except ValueError as error:
        raise UserError(str(error)) from error
