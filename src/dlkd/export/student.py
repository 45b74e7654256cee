"""The trained student of a run, with all that is known of how it wants its images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from dlkd.errors import UserError, first_line
from dlkd.export.preprocessing import Preprocessing
from dlkd.jobs.card import CONFIG
from dlkd.models import LoadedModel, load_model
from dlkd.models.registry import resolve_name
from dlkd.models.trained import DESCRIPTION_BYTES, STUDENT_FILE
from dlkd.pages.plain_yaml import read_plain
from dlkd.pages.typed import typed
from dlkd.regular import read_regular
from dlkd.run_folder import unfinished
from dlkd.train.teacher_options import TeacherOptions

IN_MEMORY = ("digits", "cifar10", "cifar100", "npz")
"""Data sets whose images are shown as they are; those of files are resized and cropped."""


class Student(NamedTuple):
    """A student as it was trained."""

    loaded: LoadedModel
    name: str
    """Of the architecture; see :func:`dlkd.models.build_model`."""
    class_names: tuple[str, ...]
    channels: int
    preprocessing: Preprocessing
    file: Path
    """Its weights."""

    @property
    def folder(self) -> Path:
        """Where its run is, if the weights were not moved."""
        return self.file.parent


def read_student(path: Path, name: str | None = None) -> Student:
    """The student in a run folder, or in its ``student.safetensors``.

    Args:
        path: either of them.
        name: the factory of a student that was made by one.

    Raises:
        UserError: no such run, one that is not finished, or a file that is not ours.
    """
    file = student_file(path)
    about = _description(file)
    channels = about["channels"]
    try:
        loaded = load_model(name, file, 1, channels=channels, own_classes=True, prefix="--")
        names = loaded.class_names or tuple(map(str, range(int(about["num_classes"]))))
        resize, crop = _sides(loaded)
        preprocessing = Preprocessing(names, channels, resize, crop, loaded.input_format)
    except ValueError as error:
        raise UserError(str(error)) from error
    return Student(loaded, name or str(about["model"]), names, channels, preprocessing, file)


def student_file(path: Path) -> Path:
    """The weights that ``path`` stands for.

    Raises:
        UserError: see :func:`read_student`.
    """
    if not path.exists():
        raise UserError(f"expected a run at {path}, but there is nothing; give the --out of dlkd distill")
    if not path.is_dir():
        return path
    file = path / STUDENT_FILE
    if (todo := unfinished(path)) is not None:
        raise UserError(todo)
    if not file.is_file():
        raise UserError(f"expected a run of dlkd in {path}, but there is no {STUDENT_FILE}; give the folder of a run")
    return file


def teacher_options(folder: Path) -> TeacherOptions | str:
    """Those of the run in ``folder``; in words why not, where it has no teacher or one that a factory would make."""
    if not (folder / CONFIG).is_file():
        return "the weights lie without their run"
    try:
        config = read_plain(folder / CONFIG)
        if "teacher" not in config:
            return "its run had no teacher"
        options = typed(TeacherOptions, config["teacher"])
        if options == TeacherOptions():
            return "its run had no teacher"
        for source in options.each():
            # To build from a factory is to run code, and a file must never do that.
            if source.name is not None and resolve_name(source.name).source == "factory":
                return f"its teacher is made by {source.name:.80}, which would be imported and run"
    except (UserError, ValueError, OSError) as error:
        return f"its teacher could not be loaded: {first_line(error):.200}"
    except Exception as error:  # YAML and options of the wrong kind have many
        return f"{CONFIG} of the run could not be read: {first_line(error):.200}"
    return options


def _description(file: Path) -> dict[str, Any]:
    """The JSON file beside the weights, of which :func:`dlkd.models.load_model` checks the rest."""
    beside = file.with_suffix(".json")
    if file.suffix != ".safetensors" or not beside.is_file():
        raise UserError(
            f"expected a run of dlkd, or its {STUDENT_FILE} with the .json file beside it, but got {file}, which does "
            "not say what model it is of"
        )
    try:
        found = json.loads(read_regular(beside, DESCRIPTION_BYTES))
        if not isinstance(found, dict) or not {"model", "num_classes", "channels"} <= found.keys():
            raise ValueError("it does not describe a model")
        if isinstance(found["channels"], bool) or found["channels"] not in (1, 3):
            raise ValueError(f"expected 1 or 3 channels, but found {found['channels']!r:.40}")
        return found
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{beside} is damaged: {first_line(error)}") from error


def _sides(loaded: LoadedModel) -> tuple[tuple[int, ...], tuple[int, int]]:
    """How a picture comes to the size of the images that the student was trained on."""
    card = loaded.card
    side: Any = card.get("image_size") or loaded.input_format.resolution or 224
    if isinstance(side, bool) or not isinstance(side, int):
        raise ValueError(f"expected the side of its images in pixels, but found {side!r:.40}")
    trained_on = card.get("trained_on")
    name = trained_on.get("data") if isinstance(trained_on, dict) else None
    # Older runs do not say whether images were files.
    shape: Any = card.get("image_shape", [side, side] if name in IN_MEMORY else None)
    if shape is None:
        return (round(side * 8 / 7),), (side, side)
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(s) is int for s in shape):
        raise ValueError(f"expected height and width of its images, but found {shape!r:.40}")
    height, width = shape
    return ((height,) if height == width else (height, width)), (height, width)
