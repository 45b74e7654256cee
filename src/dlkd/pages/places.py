"""One word for a whole group of options: ``--data photos`` is ``--data.name folder --data.root photos``."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from dlkd.errors import UserError

PAGES = (".yaml", ".yml", ".json")
"""What the parser itself reads as a page of options."""
TABLES = (".csv", ".tsv", ".parquet")
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar", ".onnx", ".h5", ".pkl")
"""Endings of files, which no name of a model has."""
HUB = re.compile(r"[\w.-]+/[\w.-]+")
FOLDER_OF_CIFAR = {"cifar-100-python": "cifar100", "cifar-10-batches-py": "cifar10"}
"""What the official archives unpack to."""


def with_places(arguments: Sequence[str], groups: Collection[str]) -> list[str]:
    """The same arguments, with every ``--data X``, ``--teacher X``, ``--student X`` and ``--model X`` written out.

    What stands as an option of the group as well, as ``--teacher.name``, wins over what X says of it.

    Args:
        arguments: as the user typed them.
        groups: options of the command that are groups; ``run`` among them has groups of its own, as ``--run.data``.

    Raises:
        UserError: X is nothing that data or a model can come from.
    """
    found: list[str] = []
    waiting = iter(arguments)
    for argument in waiting:
        option, equals, value = argument.partition("=")
        name = option.removeprefix("--")
        whole = name.removeprefix("run.") if "run" in groups else name
        if not option.startswith("--") or whole not in _MEANING or (whole == name and name not in groups):
            found.append(argument)
            continue
        if not equals:
            value = next(waiting, "")
        if not value or (not equals and value.startswith("--")):
            raise UserError(f"expected a value after {option}, but got none")
        if (value.endswith(PAGES) or value.startswith(("{", "["))) and not Path(value).is_dir():
            found += [option, value]
            continue
        said = {a.partition("=")[0] for a in arguments}
        meaning: dict[str, str | None]
        if whole == "data" and value in _data_sets() and f"{option}.root" in said:
            meaning = {"name": value}  # and its folder
        else:
            meaning = {**_MEANING[whole](value, option)}
        if whole == "teacher":  # in place of what a recipe says
            meaning |= {"weights": None} if "name" in meaning else {"pretrained": "false"}
        found += [
            f"{option}.{key}={_written(key, of, whole != name)}"
            for key, of in meaning.items()
            if f"{option}.{key}" not in said and not (key == "pretrained" and f"{option}.weights" in said)
        ]
    return found


def _written(key: str, value: str | None, as_yaml: bool) -> str:
    """A value as the parser reads it: of a folder called ``2024`` or ``null`` it would make a number or nothing."""
    if value is None or key == "pretrained":
        return value or "null"
    if key in ("root", "weights"):
        value = os.path.join(".", value)
    return json.dumps(value) if as_yaml else value


def _data_sets() -> tuple[str, ...]:
    from dlkd.data.sources import NAMES

    return NAMES


def with_underscores(arguments: Sequence[str], open_groups: Collection[str]) -> list[str]:
    """``--heads-only`` as ``--heads_only``: options are named as in Python, and typed as on any command line.

    Args:
        arguments: as the user typed them.
        open_groups: options whose pages have names of the user's own, as ``--methods.kd-2``.
    """
    found = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option.startswith("--") and option[2:].partition(".")[0] not in open_groups:
            option = "--" + option[2:].replace("-", "_")
        found.append(option + equals + value)
    return found


def data_place(value: str, option: str) -> dict[str, str]:
    """What a word says of the data: options of :class:`dlkd.DataOptions` and their values.

    Args:
        value: a name, a folder, a file, or a pattern of shards.
        option: that was given, for messages.

    Raises:
        UserError: it is none of these, or both a name and a folder.
    """
    path, names = Path(value), _data_sets()
    if value in names and path.is_dir():
        raise UserError(
            f"expected {option} to be one thing, but {value} is a data set and a folder here; give ./{value} for the "
            f"folder, or {option}.name {value}"
        )
    if value in names or (":" in value and not path.exists()):
        return {"name": value}
    if path.is_dir():
        kind = next((name for inner, name in FOLDER_OF_CIFAR.items() if (path / inner).is_dir()), "folder")
        return {"name": kind, "root": value}
    kinds = {".npz": "npz", ".tar": "webdataset", **dict.fromkeys(TABLES, "table")}
    if (path.is_file() or path.suffix == ".tar") and path.suffix.lower() in kinds:
        return {"name": kinds[path.suffix.lower()], "root": value}
    found = "a file of another kind" if path.exists() else "there is nothing of this name"
    raise UserError(
        f"expected {option} to be a folder with one sub-folder of images a class, a table ({', '.join(TABLES)}), an "
        f".npz file, .tar shards, hf:NAME_OR_FOLDER or one of {', '.join(names)}, but got {value!r}: {found}"
    )


def teacher_place(value: str, option: str) -> dict[str, str]:
    """:func:`model_place` of a teacher. A name stands for its published weights; nobody learns from random ones."""
    given = model_place(value, option)
    return given | {"pretrained": "true"} if "name" in given else given


def model_place(value: str, option: str) -> dict[str, str]:
    """What a word says of a model: its name, or its weights.

    Raises:
        UserError: it looks like a path, and there is nothing, or it is both a name and a file.
    """
    path = Path(value)
    if (path / "config.json").is_file() and not (path / "student.json").is_file():
        return {"name": f"hf:{value}"}
    if path.exists():
        if os.sep not in value and _is_model(value):
            raise UserError(
                f"expected {option} to be one thing, but {value} is a model and a file or folder here; give ./{value} "
                f"for its weights, or {option}.name {value}"
            )
        return {"weights": value}
    if ":" not in value and (os.sep in value or value.lower().endswith(WEIGHTS)):
        hub = f"; for a model of the Hugging Face hub give {option} hf:{value}" if HUB.fullmatch(value) else ""
        raise UserError(f"expected {option} to be a name or a file or folder of weights, but there is no {value}{hub}")
    return {"name": value}


def _is_model(name: str) -> bool:
    from dlkd.models.registry import resolve_name

    if ":" in name:  # which might be code, and nobody calls a folder that
        return False
    try:
        resolve_name(name)
    except ValueError:
        return False
    return True


_MEANING: dict[str, Callable[[str, str], dict[str, str]]] = {
    "data": data_place,
    "teacher": teacher_place,
    "student": model_place,
    "model": model_place,
}
