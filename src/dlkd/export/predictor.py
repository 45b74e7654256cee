"""One trained model, whatever file it lies in, that is asked about pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlkd.data import FilePixels
from dlkd.errors import UserError, first_line
from dlkd.export.graph import need_onnx
from dlkd.export.preprocessing import PREPROCESSING, Preprocessing, read_preprocessing
from dlkd.export.runners import Runner, onnx_runner, torch_runner
from dlkd.export.student import read_student
from dlkd.models import load_model
from dlkd.models.registry import resolve_name
from dlkd.models.trained import DESCRIPTION_BYTES, STUDENT_FILE
from dlkd.regular import read_regular


class Answer(NamedTuple):
    """What is said of one picture."""

    path: Path
    top: tuple[tuple[str, float], ...]
    """Class names with their probabilities, the largest first; empty where there is an error."""
    error: str | None = None


class Predictor(NamedTuple):
    """A model and what it wants to see."""

    runner: Runner
    preprocessing: Preprocessing

    def __call__(self, paths: Sequence[Path], top: int = 5) -> list[Answer]:
        """The answers about a batch of files, in their order; a file that cannot be read has an error instead."""
        pixels = FilePixels(paths, Path())
        read: list[Tensor | str] = []
        for position in range(len(paths)):
            try:
                read.append(self.preprocessing.image(pixels.load(position)))
            except UserError as error:
                read.append(str(error))
            except (ValueError, MemoryError) as error:
                read.append(f"{paths[position]} cannot be shown to the model ({first_line(error)})")
        images = [each for each in read if isinstance(each, Tensor)]
        rows: Iterator[Tensor] = iter(self._probabilities(torch.stack(images)) if images else ())
        answers = []
        for path, each in zip(paths, read, strict=True):
            answers.append(Answer(path, (), each) if isinstance(each, str) else self._answer(path, next(rows), top))
        return answers

    def _probabilities(self, images: Tensor) -> Tensor:
        return torch.softmax(self.runner(images).double(), dim=1)

    def _answer(self, path: Path, row: Tensor, top: int) -> Answer:
        if not row.isfinite().all():
            return Answer(path, (), "the model's logits are not finite")
        return Answer(path, most_probable(row, self.preprocessing.class_names, top))


def most_probable(row: Tensor, names: Sequence[str], top: int) -> tuple[tuple[str, float], ...]:
    """The ``top`` classes of probabilities ``[C]`` with their values, the largest first."""
    values, classes = row.sort(descending=True, stable=True)
    best = zip(classes[:top].tolist(), values[:top].tolist(), strict=True)
    return tuple((names[k], value) for k, value in best)


def open_predictor(
    model: Path, *, name: str | None = None, device: torch.device | None = None, threads: int | None = None
) -> Predictor:
    """A run, its ``student.safetensors``, a ``model.onnx`` with its JSON file, or a folder of an export.

    Args:
        model: file or folder.
        name: factory of a student that was made by one.
        device: of models in PyTorch; ONNX files run on the CPU.
        threads: of ONNX Runtime; by default torch's.

    Raises:
        UserError: none of these, or damaged.
    """
    if not model.exists():
        raise UserError(f"expected a run or an exported model at {model}, but there is nothing; see dlkd export")
    if model.is_dir() and (model / PREPROCESSING).is_file() and not (model / STUDENT_FILE).is_file():
        if (model / "model.safetensors").is_file():
            return _of_hub_folder(model, name, device)
        model = model / "model.onnx"
        if not model.is_file():
            raise UserError(
                f"expected model.onnx or model.safetensors beside {PREPROCESSING}, but {model} is not there"
            )
    if model.suffix == ".onnx":
        need_onnx(f"{model.name}")
        preprocessing = read_preprocessing(model.parent)
        return Predictor(onnx_runner(model, preprocessing, threads), preprocessing)
    if not model.is_dir() and model.suffix != ".safetensors":
        raise UserError(
            f"expected a run, its {STUDENT_FILE}, an exported .onnx or a folder of dlkd export, but got {model}; "
            "export the run --to onnx"
        )
    if not model.is_dir() and model.name == "model.safetensors" and (model.parent / "config.json").is_file():
        return _of_hub_folder(model.parent, name, device)
    student = read_student(model, name)
    return Predictor(torch_runner(student.loaded.module, student.loaded.input_format, device), student.preprocessing)


def _of_hub_folder(folder: Path, name: str | None, device: torch.device | None) -> Predictor:
    preprocessing = read_preprocessing(folder)
    stated = _architecture(folder / "config.json")
    try:
        if name is None and resolve_name(stated).source == "factory":
            # To build from a factory is to run code, and what a file says must never do that.
            raise UserError(
                f"{folder} was made with the factory {stated!r:.80}, which would be imported and run; if you trust "
                "it, give it as --name"
            )
        loaded = load_model(
            name or stated,
            folder / "model.safetensors",
            len(preprocessing.class_names),
            channels=preprocessing.channels,
            input_format=preprocessing.input_format,
            prefix="--",
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    return Predictor(torch_runner(loaded.module, loaded.input_format, device), preprocessing)


def _architecture(file: Path) -> str:
    try:
        found: Any = json.loads(read_regular(file, DESCRIPTION_BYTES))
        stated = found["model"]
        if not isinstance(stated, str):
            raise ValueError("its model is no name")
        return stated
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"{file} is damaged or no file of dlkd export: {first_line(error)}") from error
