"""Teacher outputs on disk, by the key of the view.

A view is a pure function of its key, so what the teacher says about it can be kept: several students, methods, label
sets and mappings then share one pass of the teacher. Distances are kept, not temperatures, so that mappings can change.
The rows of a shard stand in the order of the epoch that shows its view, so that training reads from start to end.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dlkd
from dlkd.data import Batch, Samples, ViewFamily
from dlkd.data.samples import Indices
from dlkd.difficulty import DifficultyScore
from dlkd.errors import UserError
from dlkd.files import TEMPORARY, clean_temporaries
from dlkd.store.lesson import Lesson, LiveLessons
from dlkd.store.manifest import MANIFEST, Manifest, Shard
from dlkd.store.shards import Shards, is_ours, locked
from dlkd.store.storage import Storage

SHARD_BYTES = 1 << 26
PLAIN = Storage("fp32")
"""Lessons of images without augmentation are few, and figures of the teacher are made of them."""


class StoredLessons:
    """Replays what the teacher said about each (sample, view); asks it where nothing is stored yet.

    Args:
        path: folder of the store; made when it is missing.
        live: asked for what is not stored.
        family: whose views are stored.
        identity: what else the outputs depend on (teacher, probes, input format, precision), as JSON values.
        storage: form of the logits; None takes that of the store, fp16 for a new one.
        views: view numbers that it is built for; None lets it grow with the runs that use it.
        batch_size: of the teacher while it fills the store.
        budget: bytes of shards that are mapped at once.

    Raises:
        UserError: the folder holds outputs of another teacher or other views, in another form, or is damaged.
    """

    def __init__(
        self,
        path: Path,
        live: LiveLessons,
        family: ViewFamily,
        identity: dict[str, object],
        *,
        storage: Storage | None = None,
        views: int | None = None,
        batch_size: int = 256,
        budget: int = 1 << 30,
    ) -> None:
        self.path, self.family, self.batch_size = path, family, batch_size
        wanted = _manifest(live, family, identity, storage or Storage(), views)
        wanted.storage.check(wanted.classes)
        self.manifest = self._opened(wanted, storage)
        try:
            scores = [DifficultyScore(name, tau) for name, tau in self.manifest.scores]  # type: ignore[arg-type]
        except ValueError as error:
            raise UserError(f"could not open the store {path}: {error}; give another --store") from error
        self._columns = {score.column(name) for score in scores for name in live.teacher.probe_names}
        self._live: LiveLessons | None = LiveLessons(live.teacher, scores, probe_logits=self.manifest.probe_logits)
        self.shards = Shards(path, self.manifest.key, budget)
        self._inverse: dict[int, Indices] = {}
        self._looked_at: set[str] = set()

    def _opened(self, wanted: Manifest, storage: Storage | None) -> Manifest:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not (self.path / MANIFEST).exists():
                # Shards without a manifest have lost it; whether they are of this store stands in each.
                others = [p for p in self.path.iterdir() if not TEMPORARY.fullmatch(p.name) and not is_ours(p.name)]
                # Another process may have just written the manifest.
                if any(p.name != MANIFEST for p in others):
                    raise UserError(f"expected a store or an empty folder at {self.path}, but found other files")
                with locked(self.path, "manifest", wait=True):
                    if not (self.path / MANIFEST).exists():
                        clean_temporaries(self.path, MANIFEST)
                        wanted.write(self.path)
        except OSError as error:
            raise UserError(f"could not open the store {self.path}: {error.strerror}; give another --store") from error
        found = Manifest.read(self.path)
        differ = found.lacks(wanted)
        if storage is not None and storage != found.storage:
            differ.append("storage")
        if differ:
            raise UserError(
                f"expected a store of this teacher and these views at {self.path}, but it differs in "
                f"{', '.join(differ)}; give another --store or delete it"
            )
        if found.grown(wanted.views) != found:
            with locked(self.path, "manifest", wait=True):
                # Another process may have let it grow meanwhile.
                found = Manifest.read(self.path).grown(wanted.views)
                clean_temporaries(self.path, MANIFEST)
                found.write(self.path)
        return found

    @property
    def live(self) -> LiveLessons:
        """Who is asked about what is not stored."""
        if self._live is None:
            raise UserError(f"the store {self.path} lacks a view that it had; dlkd store repair --store {self.path}")
        return self._live

    def release(self) -> None:
        """Let go of the teacher: everything that will be asked for is stored."""
        self._live = None

    def __call__(self, batch: Batch) -> Lesson:
        """The stored lesson of ``batch``, on its device."""
        return self.manifest.storage.decode(self.kept(batch), self.manifest.classes).to(batch.images.device)

    def kept(self, batch: Batch) -> dict[str, Tensor]:
        """The rows of ``batch`` in the form in which they are kept, on the CPU."""
        positions, views = batch.positions.cpu().numpy(), batch.views.cpu().numpy()
        parts: dict[str, Tensor] = {}
        rows = self.manifest.rows
        for view in np.unique(views):
            chosen = np.flatnonzero(views == view)
            places = self._places(int(view))[positions[chosen]]
            for part in np.unique(places // rows):
                here = places // rows == part
                index, to = torch.from_numpy(places[here] - part * rows), torch.from_numpy(chosen[here])
                for name, values in self.shard(Shard(int(view), int(part))).items():
                    picked = values[index]
                    whole = parts.setdefault(name, picked.new_empty(len(positions), *picked.shape[1:]))
                    whole[to] = picked
        return parts

    def plain(self, samples: Samples, size: int | None = None) -> Lesson:
        """The lesson of images without augmentation, kept as well."""
        name = plain_name(samples, size)
        tensors = self._kept(name, lambda: len(samples), lambda: PLAIN.encode(self.live.plain(samples, size)))
        return PLAIN.decode({k: v.clone() for k, v in tensors.items()}, self.manifest.classes)

    def shard(self, shard: Shard) -> dict[str, Tensor]:
        """The rows of one shard, as they are kept; the teacher is asked if nobody has asked it yet."""
        return self._kept(shard.name, lambda: len(self.positions(shard)), lambda: self.ask(shard))

    def ask(self, shard: Shard) -> dict[str, Tensor]:
        """What is to be kept of one shard, from the teacher itself."""
        live, storage = self.live, self.manifest.storage
        parts = []
        for batch in self.family.batches(self.positions(shard), shard.view, self.batch_size):
            parts.append({k: v.cpu() for k, v in storage.encode(live(batch.to(live.teacher.device))).items()})
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def positions(self, shard: Shard) -> Indices:
        """The samples of a shard, in its order; images that mix stand together."""
        start = shard.part * self.manifest.rows
        return self.family.order(shard.view)[start : start + self.manifest.rows]

    def missing(self, views: int) -> list[Shard]:
        """The shards of the first ``views`` view numbers that are not there."""
        there = self.shards.names()
        return [shard for shard in self.manifest.expected(views) if shard.name not in there]

    def has(self, views: int, plain: Samples, size: int | None) -> bool:
        """Is everything there for a run of ``views`` view numbers that ends with figures on ``plain``?

        Raises:
            UserError: what it ends with is damaged.
        """
        return not self.missing(views) and self.shards.read(plain_name(plain, size)) is not None

    def _kept(self, name: str, rows: Callable[[], int], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if (found := self._read(name, rows)) is not None:
            return found
        with self.shards.lock(name, wait=True):
            # Another process may have made it meanwhile.
            if self.shards.find(name) is None:
                self.shards.write(name, make())
        found = self._read(name, rows)
        assert found is not None
        return found

    def _read(self, name: str, rows: Callable[[], int]) -> dict[str, Tensor] | None:
        """A shard, if it is there, whose tensors are what a lesson leaves: a checksum does not tell who made it."""
        found = self.shards.read(name)
        if found is None or name in self._looked_at:
            return found
        form = PLAIN if name.startswith("plain-") else self.manifest.storage
        logits = self.manifest.probe_logits
        reason = form.misfit(found, rows(), self.manifest.classes, self._columns, probe_logits=logits)
        if reason is not None:
            raise UserError(
                f"{self.shards.find(name)} is damaged: {reason}; delete it and dlkd store repair makes it again"
            )
        self._looked_at.add(name)
        return found

    def _places(self, view: int) -> Indices:
        """Where each sample stands in the order of a view."""
        if view not in self._inverse:
            self._inverse = {view: np.argsort(self.family.order(view))}  # one at a time: epochs follow each other
        return self._inverse[view]


def plain_name(samples: Samples, size: int | None) -> str:
    """Of the shard of images without augmentation."""
    return f"plain-{samples.digest()[:16]}-{size or 0}"


def sample_bytes(live: LiveLessons, storage: Storage, classes: int) -> int:
    """What is kept of one view of a sample, in bytes."""
    columns = len(live.scores) * len(live.teacher.probe_names)
    return storage.bytes_per_sample(classes, columns, probe_logits=live.probe_logits)


def _manifest(
    live: LiveLessons, family: ViewFamily, identity: dict[str, object], storage: Storage, views: int | None
) -> Manifest:
    samples, classes = len(family.samples), len(family.samples.class_names)
    each = sample_bytes(live, storage, classes)
    return Manifest(
        identity={"family": family.hash, "content": family.content, **json.loads(json.dumps(identity))},
        samples=samples,
        classes=classes,
        scores=tuple((score.name, float(score.temperature)) for score in live.scores),
        probe_logits=live.probe_logits,
        storage=storage,
        rows=max(2, min(samples + samples % 2, SHARD_BYTES // each // 2 * 2)),  # even: pairs that mix stay together
        views=views,
        made_by={"dlkd": dlkd.__version__, "torch": str(torch.__version__), "machine": platform.platform()},
    )
