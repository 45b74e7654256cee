"""What does DLKD cost on top of the networks it asks? Ratios within one process; seconds are this machine's.

    python benchmarks/step.py --out results/step.json

- step ratio: one training step of the loop ÷ (student step + teacher forward + probe forward, each alone)
- data ratio: images per second of the loop ÷ the same with its batches made beforehand

resnet56 → resnet8 on random images of CIFAR's size: the content of the images does not change the work. Whole and parts
are without channels-last and folding.
The parts of a round are measured one after the other and the ratio is taken inside the round; the figure is the
median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from dlkd.data import DataOptions
from dlkd.jobs.card import machine
from dlkd.losses import cross_entropy
from dlkd.models import build_model
from dlkd.train.fit import train_step
from dlkd.train.optim import OptimOptions, make_optimizer
from dlkd.train.options import DistillOptions, EngineOptions, ModelOptions, TeacherOptions
from dlkd.train.session import Session
from dlkd.train.setup import make_session

CLASSES, IMAGES = 100, 4096


def make(folder: Path, options: argparse.Namespace) -> Session:
    """A session on random images with a random teacher: only its speed matters."""
    random = np.random.default_rng(0)
    arrays = {
        "train_images": random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8),
        "train_labels": np.arange(IMAGES) % CLASSES,
        "test_images": random.integers(0, 256, (CLASSES, 32, 32, 3), dtype=np.uint8),
        "test_labels": np.arange(CLASSES),
    }
    np.savez(folder / "random.npz", **arrays)
    safetensors.torch.save_file(build_model(options.teacher, CLASSES).state_dict(), folder / "teacher.safetensors")
    return make_session(
        DistillOptions(
            out=folder / "run",
            device=options.device,
            epochs=100,
            data=DataOptions("npz", folder / "random.npz", held_out=0.0),
            student=ModelOptions(options.student),
            teacher=TeacherOptions(options.teacher, folder / "teacher.safetensors", fold=False),
            optim=OptimOptions(batch_size=options.batch_size),
            engine=EngineOptions(threads=options.threads, channels_last=False),
        ),
        quiet=True,
    )


def seconds(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Wall time of ``times`` calls."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(session: Session, rounds: int, steps: int) -> list[dict[str, float]]:
    """One row of seconds a step for each round."""
    assert session.teaching is not None and session.level is not None
    session.level.calibrate(torch.rand(IMAGES))
    device = session.fabric.device
    teacher, probe = session.teaching.teacher.models
    session.student.train()
    alone = build_model(session.model.name, CLASSES).to(device).train()
    optimizer = make_optimizer(alone, session.options.optim)
    ready = [b.to(device) for b in session.steps.loader(0, 8)]
    inputs = [session.input_format(b.images) for b in ready]
    at = iter(range(10**9))

    def student_alone() -> None:
        k = next(at) % 8
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(alone(inputs[k]), ready[k].target).mean().backward()
        optimizer.step()

    def forward(model: torch.nn.Module) -> Callable[[], object]:
        def once() -> None:
            with torch.inference_mode():
                model(inputs[next(at) % 8])

        return once

    def step_in_memory() -> None:
        k = next(at)
        train_step(session, ready[k % 8], k)

    def with_data(start: int) -> Callable[[], object]:
        def epoch() -> None:
            for k, batch in enumerate(session.steps.loader(start, start + steps), start):
                train_step(session, batch.to(device), k)

        return epoch

    works = [student_alone, forward(teacher), forward(probe), step_in_memory]
    for work in works:
        seconds(work, 2, device)
    rows = []
    for r in range(rounds):
        parts = [seconds(work, steps, device) / steps for work in works]
        loaded = seconds(with_data(r * steps), 1, device) / steps
        rows.append(dict(zip(("student", "teacher", "probe", "step", "step_with_data"), (*parts, loaded), strict=True)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--teacher", default="resnet56")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(make(Path(folder), options), options.rounds, options.steps)
    step = [row["step"] / (row["student"] + row["teacher"] + row["probe"]) for row in rows]
    data = [row["step"] / row["step_with_data"] for row in rows]
    found = {
        "settings": {k: v for k, v in vars(options).items() if k != "out"},
        **machine(),
        "step_ratio": {"median": statistics.median(step), "min": min(step), "max": max(step), "target": "at most 1.05"},
        "data_ratio": {
            "median": statistics.median(data),
            "min": min(data),
            "max": max(data),
            "target": "at least 0.98",
        },
        "milliseconds": {name: 1000 * statistics.median(row[name] for row in rows) for name in rows[0]},
    }
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps({k: found[k] for k in ("step_ratio", "data_ratio", "milliseconds")}, indent=2))


if __name__ == "__main__":
    main()
