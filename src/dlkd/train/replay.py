"""The batch on which a run stopped because a number was not finite, kept so that it can be looked at again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from dlkd.data import Batch
from dlkd.errors import UserError, first_line
from dlkd.features import FeatureTap
from dlkd.files import write_atomic
from dlkd.methods import LabelOptions, LossOptions, LossParts, Signals, make_method
from dlkd.models import InputFormat, build_model
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session

BAD_BATCH = "bad_batch.safetensors"
_FEATURES = "teacher_features/"
_SIGNALS = ("target", "teacher_logits", "level", "probe_logits", "labelled")


class Replay(NamedTuple):
    """A kept batch, computed again in fp32; ``parts.total.backward()`` gives the gradients."""

    step: int
    ids: np.ndarray
    """Sample numbers ``[B]``."""
    views: Tensor
    """View numbers ``[B]``."""
    images: Tensor
    """``[B, channels, H, W]`` in [0, 1], as the student's input format got them."""
    student: nn.Module
    """With the weights it had before the step, in training mode."""
    signals: Signals
    parts: LossParts | None
    """The loss and its parts; None where the teacher's logits are what was not finite."""


def keep_batch(session: Session, batch: Batch, step: int, signals: Signals | None) -> Path:
    """Write everything that the loss of ``batch`` is computed from into the run folder; returns the file."""
    options = session.options
    tensors = {
        "images": batch.images,
        "target": batch.target,
        "views": batch.views,
        "positions": batch.positions,
        "ids": torch.from_numpy(session.data.train.ids[batch.positions.cpu().numpy()]),
    }
    if signals is not None:
        tensors |= {name: x for name in _SIGNALS if (x := getattr(signals, name)) is not None}
        tensors |= {f"{_FEATURES}{k}": x for k, x in enumerate(signals.teacher_features)}
    tensors |= {f"student/{name}": x for name, x in session.module.state_dict().items()}
    tensors |= {f"method/{name}": x for name, x in session.method.state_dict().items()}
    loss = asdict(options.loss) if isinstance(options, DistillOptions) else {}
    about = {
        "step": step,
        "epoch": step // session.steps.per_epoch,
        "strong": signals is not None and signals.strong,
        "model": session.model.name,
        "classes": len(session.data.train.class_names),
        "channels": session.data.train.pixels.channels,
        "input_format": session.input_format.to_dict(),
        "method": session.method_name,
        "loss": loss,
        "label": asdict(options.label),
        "samples": len(session.data.train),
        "layers": session.layers,
    }
    content = safetensors.torch.save(
        {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}, {"about": json.dumps(about)}
    )
    session.folder.mkdir(parents=True, exist_ok=True)
    write_atomic(session.folder / BAD_BATCH, content)
    return session.folder / BAD_BATCH


def replay(path: Path | str) -> Replay:
    """Compute the loss of a kept batch again.

    The warm-up is that of the step; dropout draws anew, and the memory of the label term ``elr`` has seen the batch.
    The file names student and method: ``package.module:name`` out of a stranger's file would be imported here.

    Args:
        path: a run folder that holds ``bad_batch.safetensors``, or the file itself.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = Path(path)
    file = file / BAD_BATCH if file.is_dir() else file
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            about: dict[str, Any] = json.loads(opened.metadata()["about"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"expected a kept batch at {file}, but found none that can be read") from error
    try:
        student = build_model(about["model"], about["classes"], channels=about["channels"])
        student.load_state_dict(_below("student/", tensors))
        student.train()
        return _again(student, about, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{file} does not fit its own model or method: {first_line(error)}") from error


def _again(student: nn.Module, about: dict[str, Any], tensors: dict[str, Tensor]) -> Replay:
    method = make_method(
        about["method"],
        LossOptions(**about["loss"]),
        about["classes"],
        label=LabelOptions(**about["label"]),
        samples=about["samples"],
    )
    layers: Any = about["layers"] or ([], [])
    if layers[0] and method.features is not None:
        method.features.connect(*([shape for _, shape in side] for side in layers))
    method.load_state_dict(_below("method/", tensors), strict=False)
    method.start_epoch(about["epoch"])
    with FeatureTap(student, [path for path, _ in layers[0]]) as tap:
        logits = student(InputFormat.from_dict(about["input_format"])(tensors["images"]))
    student_features = tuple(tap.take())
    tap.remove()
    teacher = tensors.get("teacher_logits", logits)  # who has no teacher looks at itself
    level, probe = tensors.get("level"), tensors.get("probe_logits")
    labelled = tensors.get("labelled")
    signals = Signals(
        logits,
        teacher,
        tensors["target"],
        level,
        probe,
        about["strong"],
        labelled,
        positions=tensors["positions"],
        student_features=student_features,
        teacher_features=tuple(x for k in range(len(layers[1])) if (x := tensors.get(f"{_FEATURES}{k}")) is not None),
    )
    lessons = "teacher_logits" in tensors or not method.needs_teacher
    parts = method.parts(signals) if lessons else None
    return Replay(about["step"], tensors["ids"].numpy(), tensors["views"], tensors["images"], student, signals, parts)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
