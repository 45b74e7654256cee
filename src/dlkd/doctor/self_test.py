"""A small run from end to end on the bundled digits, and a loss against its formula."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkd.data import DataOptions
from dlkd.doctor.line import Line
from dlkd.errors import UserError, first_line
from dlkd.jobs.evaluate import EvaluateOptions, evaluate
from dlkd.jobs.run import run
from dlkd.losses import kd_loss
from dlkd.train.device import pick_device
from dlkd.train.engine import EngineOptions
from dlkd.train.optim import OptimOptions
from dlkd.train.options import DistillOptions, ModelOptions, RunOptions, TrainOptions
from dlkd.train.teacher_options import TeacherOptions

CLOSE = 1e-5
"""Relative difference that single precision is allowed."""


def look(device: str) -> list[Line]:
    """The lines about the loss and the run."""
    return [_tried("the loss of KD", _loss, device), _tried("train, distill, evaluate", _run, device)]


def _tried(name: str, test: Callable[[str], str], device: str) -> Line:
    advice = "report it with what dlkd doctor --json prints"
    try:
        return Line("test", f"{name}: {test(device)}")
    except UserError as error:
        return Line("test", f"{name}: {error}", "problem", "mend that first")
    except Exception as error:  # whatever breaks is what is looked for
        return Line("test", f"{name}: {type(error).__name__}: {first_line(error)}", "problem", advice)


def _loss(device: str) -> str:
    """T²·Σ p_t·(log p_t − log p_s) at T = 4, in double precision by numpy."""
    random, temperature = np.random.default_rng(0), 4.0
    student, teacher = random.normal(0, 3, (2, 64, 10))
    log_s, log_t = _log_softmax(student / temperature), _log_softmax(teacher / temperature)
    expected = float(temperature**2 * (np.exp(log_t) * (log_t - log_s)).sum(axis=1).mean())
    where = pick_device(device)
    tensors = [torch.tensor(logits, dtype=torch.float32, device=where) for logits in (student, teacher)]
    found = float(kd_loss(tensors[0], tensors[1], temperature=temperature))
    off = abs(found - expected) / expected
    if not off <= CLOSE:
        raise ArithmeticError(f"expected {expected:.8g}, but got {found:.8g} on {where}")
    return f"within {off:.0e} of its formula in double precision, on {where}"


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted: np.ndarray = logits - logits.max(axis=1, keepdims=True)
    log_p: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_p


def _run(device: str) -> str:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dlkd-doctor-") as name, contextlib.ExitStack() as hushed:
        hushed.enter_context(contextlib.redirect_stdout(io.StringIO()))
        hushed.enter_context(contextlib.redirect_stderr(io.StringIO()))
        folder, model = Path(name), ModelOptions("resnet8x0.5")
        try:
            run(TrainOptions(**_common(folder / "teacher", device), model=model), quiet=True)
            teacher = TeacherOptions(weights=folder / "teacher")
            distill = DistillOptions(**_common(folder / "student", device), student=model, teacher=teacher)
            of_run = run(distill, quiet=True)["test"]["accuracy"]
            again = evaluate(EvaluateOptions(weights=folder / "student", device=device))["accuracy"]
        except UserError as error:
            raise UserError(str(error).replace(name, "the temporary folder")) from error
    if not abs(of_run - again) < 0.5:  # a sum in another order may turn an image that is undecided
        raise ArithmeticError(f"the run says {of_run:.2f} % of the test images, dlkd evaluate {again:.2f} %")
    return f"{time.monotonic() - started:.1f} s, {again:.0f} % of the digits after a moment's training"


def _common(folder: Path, device: str) -> dict[str, Any]:
    engine = EngineOptions(evaluate_every=0, tensorboard=False, report=False)
    options = RunOptions(
        out=folder,
        force=True,
        device=device,
        epochs=6,
        data=DataOptions(per_class=30),
        optim=OptimOptions(lr=0.1, schedule="one_cycle", batch_size=30),
        engine=engine,
    )
    return {name: getattr(options, name) for name in options.__dataclass_fields__}
