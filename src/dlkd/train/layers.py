"""Which layers of student and teacher are compared, and the taps that listen to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dlkd.data import Samples, plain_batches
from dlkd.errors import UserError, first_line
from dlkd.features import FeatureMethod, FeatureTap, LayerPairs, Stage, default_layers, feature_shapes, stages
from dlkd.features.tap import find_layer
from dlkd.methods import Composition
from dlkd.models import InputFormat
from dlkd.train.options import DistillOptions
from dlkd.train.teachers import LoadedTeacher


class Taps(NamedTuple):
    """On the layers of a run; what they hear lives for one step."""

    student: FeatureTap
    teacher: FeatureTap


def check_layers(options: DistillOptions, method: Composition) -> None:
    """Refuse what does not go with the layers of ``method``, before anything large is loaded.

    Raises:
        UserError: layers for a method that compares none; or for one that does, a store, several teachers, a teacher
            that is asked in parts, or batches too small for relations.
    """
    name = options.method
    if method.features is None:
        for side in ("student_layers", "teacher_layers"):
            if getattr(options.feature, side) is not None:
                raise UserError(
                    f"expected --feature.{side} with fitnet, at or rkd, but method {name} compares no layers"
                )
        return
    if options.store is not None:
        raise UserError(
            f"expected no --store with method {name}: what layers return is larger than the images and is not kept"
        )
    if options.teacher.batch_size is not None:
        raise UserError(f"expected no --teacher.batch_size with method {name}, which looks into the teacher's layers")
    if (teachers := len(options.teacher.each())) > 1:
        raise UserError(f"expected one teacher with method {name}, but got {teachers}: their layers have no mean")
    if method.features.loss == "rkd" and options.optim.batch_size != "auto" and options.optim.batch_size < 3:
        raise UserError(
            f"expected --optim.batch_size to be at least 3 with rkd, but got {options.optim.batch_size}: "
            "two samples have one distance and no angle, which are always right"
        )


def connect_layers(
    options: DistillOptions,
    features: FeatureMethod,
    student: tuple[nn.Module, InputFormat],
    loaded: LoadedTeacher,
    samples: Samples,
    size: int,
) -> LayerPairs:
    """Settle the layers, as given or by :func:`dlkd.features.default_layers`, and make what is learnt between them.

    Args:
        options: what was asked for.
        features: of the method; its adapters begin at random weights of ``options.seed``.
        student: the module, and from images in [0, 1] to what it wants to see.
        loaded: the teacher, before it is folded.
        samples: two of its images are shown to both models.
        size: side of images that come from files.

    Raises:
        UserError: an unknown layer, numbers of layers that differ, features that cannot be compared, or a model that
            does not take these images.
    """
    images = next(plain_batches(samples.take(np.arange(min(2, len(samples)))), size=size))[0]
    asked = options.feature.student(), options.feature.teacher()
    found = (
        _stages("student", *student, images, asked[0]),
        _stages("teacher", loaded.members[0].module, loaded.input_format, images, asked[1]),
    )
    try:
        pairs = LayerPairs(*found)
        if None in asked:
            own = default_layers(features.loss, *found)
            pairs = LayerPairs(*(o if a is None else f for a, f, o in zip(asked, found, own, strict=True)))
        torch.default_generator.manual_seed(options.seed)
        features.connect([stage.shape for stage in pairs.student], [stage.shape for stage in pairs.teacher])
    except ValueError as error:
        raise UserError(f"{error}; name layers by --feature.student_layers and --feature.teacher_layers") from error
    return pairs


def _stages(
    who: str, module: nn.Module, input_format: InputFormat, images: Tensor, asked: Sequence[str] | None
) -> list[Stage]:
    """The layers that were asked for, or all stages of the model."""
    try:
        for path in asked or ():
            find_layer(module, path)
    except ValueError as error:
        raise UserError(f"--feature.{who}_layers: {error}") from error
    try:
        example = input_format(images)
        if asked is None:
            return stages(module, example)
        return [Stage(*pair) for pair in zip(asked, feature_shapes(module, asked, example), strict=True)]
    except Exception as error:  # it may be the user's own code
        raise UserError(f"could not look into the layers of the {who}: {first_line(error)}") from error


def describe(pairs: LayerPairs) -> str:
    """The layers in words, for the remarks of a run."""
    both = zip(pairs.student, pairs.teacher, strict=True)
    words = [f"{s.path} {list(s.shape)} of the student with {t.path} {list(t.shape)} of the teacher" for s, t in both]
    return f"layers that are compared: {'; '.join(words)}"
