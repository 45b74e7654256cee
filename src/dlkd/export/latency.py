"""How long models take and how large they are, in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from dlkd.data import DataSet
from dlkd.errors import UserError, first_line
from dlkd.export.checked import Images
from dlkd.export.graph import to_onnx
from dlkd.export.preprocessing import INPUT, Preprocessing
from dlkd.export.runners import onnx_session
from dlkd.export.student import Student, teacher_options
from dlkd.models import build_model, default_input_format
from dlkd.train.teacher_options import TeacherOptions
from dlkd.train.teachers import load_teacher

BATCHES = (1, 32)
SECONDS, LEAST, MOST = 4.0, 10, 200
"""For one size of batches; calls of each model."""


class Timed(NamedTuple):
    """A model that can be called with so many images, and its size."""

    call: Callable[[int], object]
    megabytes: float


def measure(models: Mapping[tuple[str, str], Timed]) -> list[dict[str, Any]]:
    """Median and 95th percentile in ms for batches of 1 and 32.

    The models take turns, so that what else the machine does is the same for all.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {
        name: {"model": name[0], "engine": name[1], "megabytes": each.megabytes} for name, each in models.items()
    }
    for size in BATCHES:
        taken: dict[tuple[str, str], list[float]] = {name: [] for name in models}
        for _ in range(3):  # caches and lazy initialisation
            for each in models.values():
                each.call(size)
        begun = time.perf_counter()
        for turn in range(MOST):
            if turn >= LEAST and time.perf_counter() - begun > SECONDS:
                break
            for name, each in models.items():
                start = time.perf_counter()
                each.call(size)
                taken[name].append(1e3 * (time.perf_counter() - start))
        for name, times in taken.items():
            rows[name] |= {
                f"median_ms_{size}": float(np.median(times)),
                f"p95_ms_{size}": float(np.quantile(times, 0.95)),
            }
    return list(rows.values())


def in_torch(module: nn.Module, preprocessing: Preprocessing) -> Timed:
    """A model in PyTorch, on the CPU."""
    inputs = {size: torch.rand(size, preprocessing.channels, *preprocessing.input_sides) for size in BATCHES}

    def call(size: int) -> object:
        with torch.inference_mode():
            return module(inputs[size])

    state = module.state_dict().values()
    return Timed(call, sum(v.numel() * v.element_size() for v in state) / 1e6)


def in_onnx(file: Path, preprocessing: Preprocessing, threads: int) -> Timed:
    """An ONNX file in ONNX Runtime, on the CPU."""
    session = onnx_session(file, threads)
    random = np.random.default_rng(0)
    sides = (preprocessing.channels, *preprocessing.input_sides)
    inputs = {size: {INPUT: random.random((size, *sides), dtype=np.float32)} for size in BATCHES}
    return Timed(lambda size: session.run(None, inputs[size]), file.stat().st_size / 1e6)


def bare_teacher(student: Student, images: Images) -> tuple[nn.Module, Preprocessing] | str:
    """The teacher of the student's run, without its probe; in words why not, where there is none that can be loaded."""
    options = teacher_options(student.folder)
    if isinstance(options, str):
        return options
    try:
        return _loaded(options, images.data, student)
    except Exception as error:  # a stranger's teacher raises whatever it likes
        return f"its teacher could not be loaded: {first_line(error):.200}"


def _loaded(options: TeacherOptions, data: DataSet, student: Student) -> tuple[nn.Module, Preprocessing]:
    own, classes = student.preprocessing, len(student.class_names)
    if options.pretrained and isinstance(options.name, str):
        # Time and size are those of any weights: nothing is fetched for them.
        module = build_model(options.name, classes, channels=own.channels)
        form = default_input_format(options.name, classes, own.channels)
    else:
        module, form = load_teacher(options, data, student.channels)[:2]
    return module.eval(), Preprocessing(own.class_names, own.channels, own.resize, own.crop, form)


def benchmark(
    student: Student, images: Images, folder: Path, int8: tuple[Path, Preprocessing] | None
) -> dict[str, Any]:
    """Student and teacher in both engines.

    Args:
        student: the trained one.
        images: of its run.
        folder: for files that are only measured.
        int8: the quantised student, with what it wants to see.
    """
    threads, own = torch.get_num_threads(), student.preprocessing
    remarks: list[str] = []
    models: dict[tuple[str, str], Timed] = {("student", "PyTorch"): in_torch(student.loaded.module, own)}
    # The bare model: what the input format costs is the same everywhere, and may be done by whoever calls.
    bare = folder / "student.onnx"
    to_onnx(student.loaded.module, own, bare)
    models[("student", "ONNX Runtime")] = in_onnx(bare, own, threads)
    if int8 is not None:
        models[("student, int8", "ONNX Runtime")] = in_onnx(*int8, threads)
    teacher = bare_teacher(student, images)
    if isinstance(teacher, str):
        remarks.append(f"no teacher was measured: {teacher}")
    else:
        module, described = teacher
        models[("teacher", "PyTorch")] = in_torch(module, described)
        try:
            file = folder / "teacher.onnx"
            to_onnx(module, described, file)
            models[("teacher", "ONNX Runtime")] = in_onnx(file, described, threads)
        except UserError as error:
            remarks.append(f"the teacher was measured in PyTorch alone: {error}")
    return {"threads": threads, "batches": list(BATCHES), "rows": measure(models), "remarks": remarks}
