"""A teacher whose answers are exact whatever the batch, and stores of what it says."""

import multiprocessing
import time

import pytest
import torch
from torch import nn

from dlkd.data import CropFlip, Mixing, ViewFamily
from dlkd.data.sources import in_memory
from dlkd.difficulty import DifficultyScore
from dlkd.store import LiveLessons, Shards, Storage, StoredLessons, build
from dlkd.teacher import FrozenTeacher

N, CLASSES = 11, 4
MIXINGS = [Mixing(), Mixing("mixup", 0.4), Mixing("cutmix")]
IDENTITY = {"teacher": "abc", "probes": [{"sparsity": 0.3}], "precision": "fp32"}
EXACT = Storage("fp32")
VIEWS, ROWS = 4, 2
APART = multiprocessing.get_context("forkserver")
"""Other processes, out of one that has torch already but, unlike this one, no threads that might hold something."""
APART.set_forkserver_preload(["torch", "dlkd.store"])


class Picks(nn.Module):
    """Each logit is one pixel times a power of two; counts how often it is asked."""

    def __init__(self, first=0, stop_at=None, stop_with=AssertionError, pause=0.0, times=1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, -4.0, 0.5]) * times)
        self.first, self.stop_at, self.stop_with, self.pause = first, stop_at, stop_with, pause
        self.calls, self.images = 0, 0

    def forward(self, x):
        if self.pause:
            time.sleep(self.pause)
        self.calls += 1
        self.images += len(x)
        if self.calls == self.stop_at:
            raise self.stop_with
        return x.flatten(1)[:, self.first : self.first + CLASSES] * self.scale


def samples(n=N):
    pixels = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return in_memory(pixels, torch.arange(n) % CLASSES, tuple("abcd"))


def live(*, tau=1.0, scores=("distance",), probe_logits=False, **how):
    teacher = FrozenTeacher(Picks(3, **how), {"one": Picks(4), "two": Picks(7)})
    return LiveLessons(teacher, [DifficultyScore(name, tau) for name in scores], probe_logits=probe_logits)


def family(mixing=MIXINGS[0], seed=0, **changes):
    augment = changes.get("augment", CropFlip(1))
    return ViewFamily(changes.get("samples", samples()), augment, mixing, seed, changes.get("erase"))


def opened(path, lessons=None, views=None, identity=None, *, rows=None, storage=EXACT, built_for=None, **more):
    """A store in shards of ``rows`` samples, for ``built_for`` view numbers of the family ``views``."""
    lessons = lessons or live()
    with pytest.MonkeyPatch.context() as patch:
        if rows is not None:
            each = (storage or Storage()).bytes_per_sample(
                CLASSES, 2 * len(lessons.scores), probe_logits=lessons.probe_logits
            )
            patch.setattr("dlkd.store.store.SHARD_BYTES", rows * each)
        return StoredLessons(
            path, lessons, views or family(), identity or IDENTITY, storage=storage, views=built_for, **more
        )


def fill(path, made=lambda _: None, *, pause=0.0, stop=lambda: False, **how):
    """Build a store of small shards."""
    return build(opened(path, live(pause=pause), family(MIXINGS[1]), rows=ROWS, **how), VIEWS, stop=stop, made=made)


def fill_and_tell(path, made, pause, who=None, gate=None):
    """Build, tell the queue of each shard, and wait after the first until others have one, too."""
    told = []

    def tell(shard):
        made.put((who, shard))
        told.append(shard)
        if len(told) == 1 and gate is not None:
            gate.wait(60)  # on a busy machine one of them might otherwise make all

    fill(path, tell, pause=pause)


def grow(path, views):
    """Open a store for more views."""
    opened(path, storage=None, built_for=views)


def hold(path, name, held, go):
    """Hold the lock of a shard."""
    with Shards(path, "key").lock(name, wait=True):
        held.set()
        go.wait(60)


def assert_same(lesson, other):
    assert torch.equal(lesson.logits, other.logits)
    assert lesson.columns.keys() == other.columns.keys() == {"one/l2/tau1", "two/l2/tau1"}
    assert all(torch.equal(lesson.columns[k], other.columns[k]) for k in lesson.columns)


def content(folder):
    """The bytes of every file but the locks."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
