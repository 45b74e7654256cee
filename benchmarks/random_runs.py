"""Runs on random images with a random teacher, whose speed alone matters: what the speed benchmarks share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from dlkd.data import Batch, DataOptions
from dlkd.files import write_atomic
from dlkd.methods import LossOptions
from dlkd.models import build_model
from dlkd.store import Shard, build
from dlkd.train.engine import EngineOptions
from dlkd.train.lessons import release_teacher, stores
from dlkd.train.optim import OptimOptions
from dlkd.train.options import DistillOptions, ModelOptions
from dlkd.train.session import Session
from dlkd.train.setup import make_session
from dlkd.train.step import train_step
from dlkd.train.teacher_options import TeacherOptions

READY = 8
"""Batches that steps in memory take turns with."""
KD = LossOptions(temperature=4.0, ce_weight=0.1, kd_weight=0.9)
Work = Callable[[int], None]
"""Do so many steps."""
Rounds = list[dict[str, float]]
"""Seconds of a step by the name of the work, one row a round."""


@dataclass(frozen=True)
class Pair:
    """Teacher and student, and what they are shown.

    Args:
        teacher, student: names of models.
        classes: of the labels.
        side: of the images, in pixels.
        batch_size: samples in a step.
        images: in the training set, all of which the store holds.
    """

    teacher: str
    student: str
    classes: int = 100
    side: int = 32
    batch_size: int = 64
    images: int = 2048

    @property
    def name(self) -> str:
        return f"{self.teacher} → {self.student}"


PAIRS = {
    p.name.replace(" → ", "-").replace("timm:", ""): p
    for p in (
        Pair("resnet56", "resnet20"),
        Pair("resnet32x4", "resnet8x4"),
        Pair("timm:resnet50", "timm:mobilenetv3_large_100", 1000, 224, 16, 128),
    )
}


def choose(pair: Pair, options: Any) -> Pair:
    """The pair with the batch size and the number of images that were asked for, if they were."""
    asked = {k: v for k in ("batch_size", "images") if (v := getattr(options, k)) is not None}
    return replace(pair, **asked)


class Runs:
    """Makes sessions of one pair, all of the same images, initial student and teacher.

    Args:
        folder: for images, the teacher's weights and the store; what is there is used again.
        pair: of the models.
        device: as ``--device``.
        threads: of the CPU; None for torch's choice.
    """

    def __init__(self, folder: Path, pair: Pair, device: str = "auto", threads: int | None = None) -> None:
        self.folder, self.pair, self.device, self.threads = folder, pair, device, threads
        if not (folder / "teacher.safetensors").exists():
            self._make()

    def _make(self) -> None:
        folder, pair = self.folder, self.pair
        random, shape = np.random.default_rng(0), (pair.side, pair.side, 3)
        test = min(pair.images, 64)
        np.savez(
            folder / "random.npz",
            train_images=random.integers(0, 256, (pair.images, *shape), dtype=np.uint8),
            train_labels=np.arange(pair.images) % pair.classes,
            test_images=random.integers(0, 256, (test, *shape), dtype=np.uint8),
            test_labels=np.arange(test) % pair.classes,
            class_names=np.array([str(c) for c in range(pair.classes)]),
        )
        torch.manual_seed(0)
        weights = {k: v.contiguous() for k, v in build_model(pair.teacher, pair.classes).state_dict().items()}
        write_atomic(folder / "teacher.safetensors", safetensors.torch.save(weights))

    def options(self, method: str, **changes: Any) -> DistillOptions:
        """Those of a run; ``changes`` are of ``engine``, ``teacher`` and whatever DistillOptions has."""
        engine, teacher = changes.pop("engine", {}), changes.pop("teacher", {})
        return DistillOptions(
            out=self.folder / "run",
            device=self.device,
            epochs=1,
            method=method,
            data=DataOptions("npz", self.folder / "random.npz", held_out=0.0),
            student=ModelOptions(self.pair.student),
            teacher=TeacherOptions(self.pair.teacher, self.folder / "teacher.safetensors", **teacher),
            loss=KD if method == "kd" else LossOptions(),
            optim=OptimOptions(batch_size=self.pair.batch_size),
            engine=EngineOptions(threads=self.threads, **engine),
            **changes,
        )

    def session(self, method: str, **changes: Any) -> Session:
        """A session that is ready to train; see :meth:`options`."""
        session = make_session(self.options(method, **changes), quiet=True)
        if session.level is not None:
            session.level.calibrate(torch.rand(self.pair.images).to(session.fabric.device))
        session.student.train()
        return session

    def stored(self, method: str, **changes: Any) -> Session:
        """A session whose lessons are all in the store, which is filled first, and whose teacher is let go."""
        session = self.session(method, store=self.folder / "store", **changes)
        (store,) = stores(session)
        build(store, 1, made=_quiet)
        store.plain(session.data.test, session.size)
        release_teacher(session)
        assert session.teaching is not None and not session.teaching.teacher.models
        return session

    @property
    def store_bytes(self) -> int:
        """Of the training views in the store."""
        return sum(file.stat().st_size for file in (self.folder / "store").glob("view-*.safetensors"))


def _quiet(shard: Shard) -> None:
    pass


def ready_batches(session: Session) -> list[Batch]:
    """The first few batches, on the device."""
    count = min(READY, session.steps.per_epoch)
    return [batch.to(session.fabric.device) for batch in session.steps.loader(0, count)]


def in_memory(session: Session, ready: list[Batch]) -> Work:
    """Steps of the loop on batches that are ready."""

    def work(steps: int) -> None:
        for k in range(steps):
            train_step(session, ready[k % len(ready)], k)

    return work


def through_the_loader(session: Session) -> Work:
    """Steps of the loop with batches made on the way, within the one view of each image that the store holds."""
    at = 0

    def work(steps: int) -> None:
        nonlocal at
        steps = min(steps, session.steps.per_epoch)
        start = at if at + steps <= session.steps.per_epoch else 0
        for k, batch in enumerate(session.steps.loader(start, start + steps, session.workers), start):
            train_step(session, batch.to(session.fabric.device), k)
        at = start + steps

    return work


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call: of the processor where one thread of a CPU works, so that what else the machine does counts
    as little as it can, and else of the wall."""
    clock = time.process_time if clock_name(device) == "processor" else time.perf_counter
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def take_turns(works: Mapping[str, tuple[Work, int]], rounds: int, device: torch.device) -> Rounds:
    """Seconds of a step of each work, given with its number of steps; in reversed order every other round."""
    rows: Rounds = []
    for r in range(rounds):
        order = list(works)[:: -1 if r % 2 else 1]
        rows.append({name: timed(partial(*works[name]), device) / works[name][1] for name in order})
        print(f"  round {r + 1} of {rounds}", {n: f"{1000 * rows[-1][n]:.1f} ms" for n in works}, flush=True)
    return rows


def clock_name(device: torch.device) -> str:
    """Which clock :func:`timed` reads."""
    return "processor" if device.type == "cpu" and torch.get_num_threads() == 1 else "wall"
