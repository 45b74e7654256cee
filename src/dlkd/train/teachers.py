"""From options to trained teachers: loaded, their classes brought into the order of the data, several made one."""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import replace
from typing import NamedTuple

from torch import nn

from dlkd.data import DataOptions, DataSet, FilePixels
from dlkd.errors import UserError
from dlkd.models import CheckpointError, InputFormat, LoadedModel, load_model
from dlkd.teacher import AveragedTeacher, SelectClasses, class_index, read_class_names
from dlkd.train.teacher_options import TeacherOptions, TeacherSource


class LoadedTeacher(NamedTuple):
    """One teacher or the mean of several, whose outputs are the classes of the data."""

    module: nn.Module
    """In eval mode, on the CPU."""
    input_format: InputFormat
    """Of ``module``; several teachers apply theirs themselves."""
    members: tuple[LoadedModel, ...]
    """The teachers as they were loaded, with what is known of each."""
    identity: dict[str, object]
    """What the outputs depend on, as JSON values; ``teacher`` is a hash of the weights and, where there is more than
    one plain teacher to it, of all else."""
    remarks: tuple[str, ...]


def load_teacher(options: TeacherOptions, data: DataSet, channels: int) -> LoadedTeacher:
    """The trained teacher, its outputs checked against the classes of the data and mapped to them by name.

    Raises:
        UserError: no weights, weights that do not fit, an unknown name, or classes that the teacher does not know.
    """
    sources = options.each()
    remarks: list[str] = []
    members: list[LoadedModel] = []
    modules: list[nn.Module] = []
    about: list[dict[str, object]] = []
    for k, source in enumerate(sources):
        member, own = _load(source, options.pretrained, data, channels)
        if options.resolution is not None:
            member = member._replace(input_format=_resized(member.input_format, options.resolution))
        elif len(sources) > 1 and isinstance(data.train.pixels, FilePixels):
            member = member._replace(input_format=_own_resolution(member))
        who = "the teacher" if len(sources) == 1 else f"teacher {k + 1}"
        index = _index(own, data, who, _fine_tune(member.name, source, data), remarks)
        members.append(member)
        modules.append(member.module if index is None else SelectClasses(member.module, index).eval())
        about.append({"teacher": member.weights_hash, "input_format": member.input_format.to_dict(), "classes": index})
    first = members[0]
    if len(members) == 1 and modules[0] is first.module:
        identity: dict[str, object] = {"teacher": first.weights_hash, "input_format": first.input_format.to_dict()}
        return LoadedTeacher(first.module, first.input_format, (first,), identity, ())
    module, form = modules[0], first.input_format
    parts: dict[str, object] = {"members": about}
    if len(members) > 1:
        formats = [member.input_format for member in members]
        module, form = AveragedTeacher(modules, formats, options.average).eval(), InputFormat()
        parts["average"] = options.average
        remarks.append(f"{len(members)} teachers: the lesson is the mean of their {options.average}")
    name = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    identity = {"teacher": name, "input_format": form.to_dict(), **parts}
    return LoadedTeacher(module, form, tuple(members), identity, tuple(remarks))


def _load(
    source: TeacherSource, pretrained: bool, data: DataSet, channels: int
) -> tuple[LoadedModel, tuple[str, ...] | None]:
    """A teacher as it is, and the names of its outputs where they are known."""
    if source.weights is not None and not source.weights.exists():
        raise UserError(
            f"expected the teacher's weights at {source.weights}, but there is nothing; train a teacher with "
            f"dlkd train --out {shlex.quote(str(source.weights))}, or give another --teacher.weights"
        )
    if source.weights is None and source.name is None:
        raise UserError(
            "expected a teacher, but got none; train one with dlkd train --out runs/teacher and give --teacher.weights "
            "runs/teacher, or take a published one with --teacher.name timm:NAME --teacher.pretrained true"
        )
    stated = None if source.classes is None else read_class_names(source.classes)
    try:
        member = load_model(
            source.name,
            source.weights,
            len(data.train.class_names if stated is None else stated),
            channels=channels,
            pretrained=pretrained,
            own_classes=stated is None,
            prefix="--teacher.",
        )
    except CheckpointError as error:
        if error.classes is None:
            raise UserError(str(error)) from error
        hint = (
            "if it knows those of the data, name all of its own in a file for --teacher.classes, else train it on "
            f"them: {_fine_tune(source.name, source, data)}"
            if stated is None
            else (f"{source.classes} names {len(stated)}")
        )
        raise UserError(f"{error}; {hint}") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    return member, stated or member.class_names


def _fine_tune(name: str | None, source: TeacherSource, data: DataSet) -> str:
    """The command that goes on with a teacher on other classes."""
    start = ["--model.pretrained", "true"] if source.weights is None else ["--model.weights", str(source.weights)]
    return f"dlkd train {data.words} --model {shlex.quote(str(name))} {shlex.join(start)} --out runs/teacher"


def _index(
    own: tuple[str, ...] | None, data: DataSet, who: str, fine_tune: str, remarks: list[str]
) -> list[int] | None:
    """Numbers of the classes of the data among the teacher's; None where they are its own in its own order."""
    wanted = data.train.class_names
    if own is None:
        return None
    try:
        index = class_index(own, wanted)
    except ValueError as error:
        raise UserError(
            f"{error}; name the outputs of {who} in a file and give it as --teacher.classes, or train it on the "
            f"classes of the data: {fine_tune}"
        ) from error
    if index == list(range(len(own))):
        return None
    if len(own) == len(wanted):
        remarks.append(f"{who} has the {len(own)} classes in another order: they were matched by name")
    else:
        remarks.append(
            f"{who} knows {len(own)} classes: those of the data were chosen by name, and its probabilities are over "
            f"these {len(wanted)} alone"
        )
    return index


def _resized(form: InputFormat, side: int) -> InputFormat:
    try:
        return replace(form, resolution=side)
    except ValueError as error:
        raise UserError(f"--teacher.resolution: {error}") from error


def _own_resolution(member: LoadedModel) -> InputFormat:
    """A run of ours among others is shown images of its own side, whatever the others ask for."""
    side = _own_side(member)
    return member.input_format if side is None else replace(member.input_format, resolution=side)


def _own_side(model: LoadedModel) -> int | None:
    own = model.card.get("image_size")
    return own if isinstance(own, int) else model.input_format.resolution


def image_side(options: DataOptions, *models: LoadedModel) -> int | None:
    """Side of images that come from files: as asked for, or what the model was trained with; the largest of several."""
    return options.image_size or max((side for m in models if (side := _own_side(m)) is not None), default=None)
