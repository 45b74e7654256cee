"""Which layers of student and teacher are compared, and the taps that listen to them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlkd.data import DataSet, plain_batches
from dlkd.errors import UserError, first_line
from dlkd.features import (
    FeatureMethod,
    FeatureTap,
    LayerPairs,
    Stage,
    default_layers,
    feature_shapes,
    find_layer,
    stages,
)
from dlkd.methods import Composition
from dlkd.models import InputFormat
from dlkd.train.options import DistillOptions
from dlkd.train.teachers import LoadedTeacher


class Taps(NamedTuple):
    """On the layers of a run. No hook is in any state dict, and features live for one step."""

    student: FeatureTap
    teacher: FeatureTap


def check_layers(options: DistillOptions, method: Composition) -> None:
    """Refuse options of layers that do not go with the method, before anything large is loaded.

    Raises:
        UserError: layers for a method that compares none; a store, several teachers, or fewer than three samples in a
            batch for a method that cannot have them.
    """
    features, layers = method.features, options.feature
    if features is None:
        if layers.student_layers is not None or layers.teacher_layers is not None:
            raise UserError(
                f"expected --method {options.method}+fitnet, +at or +rkd with --feature: {options.method} compares no "
                "layers"
            )
        return
    if options.store is not None:
        raise UserError(
            f"expected no --store with --method {options.method}: features of layers are not stored, they are larger "
            "than the images; leave --store out"
        )
    if (teachers := len(options.teacher.each())) > 1:
        raise UserError(
            f"expected one teacher with --method {options.method}, but got {teachers}: their layers have no mean"
        )
    if features.loss == "rkd" and options.optim.batch_size < 3:
        raise UserError(
            f"expected --optim.batch_size to be at least 3 with rkd, but got {options.optim.batch_size}: two samples "
            "have no distance or angle to compare"
        )


def connect_layers(
    options: DistillOptions,
    features: FeatureMethod,
    student: tuple[nn.Module, InputFormat],
    loaded: LoadedTeacher,
    data: DataSet,
    size: int,
) -> LayerPairs:
    """Settle the layers, as given or by :func:`dlkd.features.default_layers`, and make what is learnt between them.

    Args:
        options: what was asked for.
        features: of the method; its adapters begin at random weights of ``options.seed``.
        student: and the input format of it.
        loaded: the teacher, not folded yet.
        data: two of its images are shown to both.
        size: side of images that come from files.

    Raises:
        UserError: an unknown layer, numbers of layers that differ, features that cannot be compared, or a model that
            does not take these images.
    """
    images = next(plain_batches(data.train.take(range(min(2, len(data.train)))), size=size))[0]
    teacher = (loaded.members[0].module, loaded.input_format)
    asked = [_listed(names) for names in (options.feature.student_layers, options.feature.teacher_layers)]
    try:
        pairs = LayerPairs(*(_stages(*model, images, names) for model, names in zip((student, teacher), asked, strict=True)))
        auto = default_layers(features.loss, *pairs) if None in asked else pairs
        pairs = LayerPairs(*(of if names else own for of, own, names in zip(pairs, auto, asked, strict=True)))
        torch.default_generator.manual_seed(options.seed)
        features.connect(*([stage.shape for stage in side] for side in pairs))
    except ValueError as error:
        raise UserError(f"{error} (--feature.student_layers, --feature.teacher_layers)") from error
    return pairs
