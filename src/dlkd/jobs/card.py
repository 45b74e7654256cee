"""The run card: what anyone needs to know to trust or repeat a run."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
import yaml

import dlkd
from dlkd.data import Samples
from dlkd.train.options import RunOptions
from dlkd.train.session import Session
from dlkd.train.teach import label_digest

PREDICTIONS = "predictions.npz"
"""What a run says of each held-out and test image, in its folder."""
CONFIG = "config.yaml"
"""Every option of a run, in its folder; written last of what is there before the first step."""
INVOCATION = ("out", "resume", "overwrite", "force", "with_baseline")
"""Options of a command, and not of the run that it makes."""


def plain(value: Any) -> Any:
    """Options as JSON and YAML values."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def config_text(options: RunOptions) -> str:
    """The resolved options as a recipe: ``dlkd distill --config FILE --out NEW`` repeats the run."""
    values = {k: v for k, v in plain(options).items() if k not in INVOCATION}
    return str(yaml.safe_dump(values, sort_keys=False))


def machine() -> dict[str, object]:
    """Versions and hardware; no names of machines or people."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    return {
        "versions": {
            "dlkd": dlkd.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "accelerator": gpu,
        "threads": torch.get_num_threads(),
    }


def trained_on(session: Session) -> dict[str, object]:
    """Names the images and labels of a training, so that students can tell whether they share them."""
    train, data = session.data.train, session.data
    return {
        "data": data.name,
        "images": train.digest(),
        "labels": label_digest(train),
        "noise": 0.0 if data.noise is None else data.noise.rate,
        "noise_kind": None if data.noise is None else data.noise.kind,
        "samples": len(train),
    }


def run_card(session: Session, command: str) -> dict[str, Any]:
    """What is known before the first step."""
    data, teaching = session.data, session.teaching
    card: dict[str, Any] = {
        "command": command,
        "settings": plain(session.options),
        "method": {"name": session.method_name, **session.method_settings},
        "device": str(session.fabric.device),
        **machine(),
        "data": {
            **trained_on(session),
            "classes": len(data.train.class_names),
            "held_out": _size(data.held_out),
            "test": len(data.test),
            "views": session.family.hash,
            "shown_views": session.steps.views,
            "unlabelled": data.train.unlabelled,
            "wrong_labels": None if data.train.wrong is None else int(data.train.wrong.sum()),
        },
        "remarks": session.remarks,
    }
    if session.layers is not None:
        names = ("student_layers", "teacher_layers")
        card["features"] = {n: [s.path for s in side] for n, side in zip(names, session.layers, strict=True)}
    if teaching is not None:
        card["teacher"] = {
            **teaching.identity,
            "seen": teaching.seen,
            "labels": teaching.labels,
            "probe_names": [s.name for s in teaching.specs],
        }
    return card


def _size(samples: Samples | None) -> int:
    return 0 if samples is None else len(samples)
