"""Build a store shard by shard, by any number of processes; look at every byte of it; mend what is bad."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from dlkd.data.view_key import Stream, draw_integer
from dlkd.difficulty.distance import MAX_DISTANCE
from dlkd.errors import UserError
from dlkd.store.manifest import Shard
from dlkd.store.shards import Damage, Shards
from dlkd.store.store import StoredLessons, sample_bytes

PAUSE = 0.2
"""Seconds between two looks at shards that other processes are making."""
ENTRIES = 256
LOGIT_TOLERANCE, DISTANCE_TOLERANCE = 1e-2, 1e-4
HALF_TOLERANCE = 2.0**-4
"""Of a teacher that computes in half precision: as a share of its largest logit, and of the largest distance. What it
says of an image depends by so much on the images beside it."""


@dataclass(frozen=True)
class Plan:
    """What is to be done before a store is whole.

    Attributes:
        shards: those that are not there.
        size: bytes they will take.
        seconds: at the speed of one batch.
    """

    shards: list[Shard]
    size: int
    seconds: float

    def sentence(self) -> str:
        """In words."""
        return f"{len(self.shards)} shards to make: {self.size / 1e9:.2f} GB, about {minutes(self.seconds)}"


def plan(store: StoredLessons, views: int) -> Plan:
    """How much is missing of the first ``views`` view numbers; asks the teacher about one batch.

    Raises:
        UserError: the disk has not the room.
    """
    missing, manifest = store.missing(views), store.manifest
    samples = sum(len(store.positions(shard)) for shard in missing[: manifest.shards])
    samples = round(samples * len(missing) / max(1, len(missing[: manifest.shards])))
    each = sample_bytes(store.live, manifest.storage, manifest.classes)
    free = shutil.disk_usage(store.path).free
    if samples * each > free:
        raise UserError(
            f"expected {samples * each / 1e9:.1f} GB of free disk for the store {store.path}, but there are "
            f"{free / 1e9:.1f}; give fewer --storage.views, --storage.top_k, or another disk"
        )
    return Plan(missing, samples * each, samples * _seconds_per_sample(store) if missing else 0.0)


def build(
    store: StoredLessons, views: int, *, stop: Callable[[], bool] = lambda: False, made: Callable[[Shard], None]
) -> bool:
    """Make what is missing of the first ``views`` view numbers; other processes may do the same at the same time.

    Args:
        store: to be filled.
        views: how many view numbers.
        stop: asked after every shard.
        made: told of every shard that this process has made.

    Returns:
        False where it was stopped before the store was whole.

    Raises:
        UserError: a view could not be made or kept.
    """
    while missing := store.missing(views):
        worked = False
        for shard in missing:
            with store.shards.lock(shard.name, wait=False) as mine:
                if mine and store.shards.find(shard.name) is None:
                    store.shards.write(shard.name, store.ask(shard))
                    worked = True
                    made(shard)
            if stop():
                return False
        if not worked:
            # The rest is being made by others, who may die over it.
            time.sleep(PAUSE)
            if stop():
                return False
    return True


def damages(shards: Shards) -> list[Damage]:
    """Every file of a store that is not what was written, every byte looked at."""
    return [damage for file in shards.files() if (damage := shards.damage(file)) is not None]


class Difference(NamedTuple):
    """By how much stored and live lessons differ at most."""

    logits: float
    """Beyond the rounding of the store."""
    distance: float
    entries: int
    """That were compared."""


def compare(store: StoredLessons, views: int, seed: int = 0, entries: int = ENTRIES) -> Difference:
    """Ask the teacher again about randomly chosen entries of the first ``views`` view numbers.

    Raises:
        UserError: it does not say what is stored: logits differ by more than 0.01 beyond the rounding of the store, or
            difficulties by more than 1e-4 (1e-4/τ below τ = 1); wider where the teacher computes in half precision.
    """
    missing = set(store.missing(views))
    there = [shard for shard in store.manifest.expected(views) if shard not in missing]
    if not there:
        return Difference(0.0, 0.0, 0)
    draws = np.arange(entries)
    chosen = draw_integer(len(there), seed, draws, 0, Stream.ORDER)
    logits, largest = [], 0.0
    distances = [torch.zeros(1)]
    # A sharper softmax passes on 1/τ times the rounding of the logits.
    taus = {
        score.column(name): score.temperature for score in store.live.scores for name in store.live.teacher.probe_names
    }
    for k in np.unique(chosen).tolist():
        positions = store.positions(there[k])
        rows = draw_integer(len(positions), seed, draws[chosen == k], 1, Stream.ORDER)
        batch = store.family.batch(positions[rows], np.full(len(rows), there[k].view))
        kept = store.kept(batch)
        live = store.live(batch.to(store.live.teacher.device))
        largest = max(largest, float(live.logits.abs().max()))
        logits.append(store.manifest.storage.gap(kept, live))
        distances += [min(1.0, taus[name]) * (kept[name] - column.cpu()).abs() for name, column in live.columns.items()]
    found = Difference(float(torch.cat(logits).max()), float(torch.cat(distances).max()), entries)
    _judge(store, found, largest)
    return found


def _judge(store: StoredLessons, found: Difference, largest: float) -> None:
    half = store.manifest.identity.get("precision", "fp32") != "fp32"
    logits = HALF_TOLERANCE * largest if half else LOGIT_TOLERANCE
    distance = HALF_TOLERANCE * MAX_DISTANCE if half else DISTANCE_TOLERANCE
    # A difference that is not a number is not below anything.
    if not (found.logits <= logits and found.distance <= distance):
        raise UserError(
            f"the teacher does not say what the store {store.path} holds: of {found.entries} entries logits differ by "
            f"up to {found.logits:.3g} (at most {logits:.3g} is rounding), difficulties by up to {found.distance:.3g} "
            f"({distance:.3g}); delete the store, so that it is made again"
        )


def _seconds_per_sample(store: StoredLessons) -> float:
    """Of a view and what teacher and probes say about it, after one batch to warm up."""
    count = min(64, len(store.family.samples) // 2 * 2) or 1
    positions = store.family.order(0)[:count]
    for _ in range(2):
        start = time.perf_counter()
        batch = store.family.batch(positions, np.zeros_like(positions))
        store.live(batch.to(store.live.teacher.device)).logits.cpu()
    return (time.perf_counter() - start) / count


def minutes(seconds: float) -> str:
    """A time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
