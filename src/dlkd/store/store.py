"""Teacher outputs on disk, one file for each view number of a view family.

A view is a pure function of its key, so what the teacher says about it can be kept: several students,
methods and label sets of one seed then share one pass of the teacher. Distances are kept, not temperatures,
so that mappings can change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from dlkd.data import Batch, Samples, ViewFamily
from dlkd.errors import UserError
from dlkd.files import TEMPORARY, write_atomic
from dlkd.store.lesson import LOGITS, Lesson, LiveLessons

MANIFEST = "manifest.json"


class StoredLessons:
    """Replays what the teacher said about each (sample, view); asks it where nothing is stored yet.

    Args:
        path: folder of the store; made when it is missing.
        live: asked for whole view numbers that are not stored.
        family: whose views are stored.
        identity: what else the outputs depend on (teacher, probes, input format, precision), as JSON values.
        batch_size: of the teacher while it fills the store.

    Raises:
        UserError: the folder holds outputs of another teacher or other views, or is not readable.
    """

    def __init__(
        self, path: Path, live: LiveLessons, family: ViewFamily, identity: dict[str, object], batch_size: int = 256
    ) -> None:
        self.path, self.live, self.family = path, live, family
        self.batch_size = batch_size
        self._shards: dict[int, dict[str, Tensor]] = {}
        manifest = {
            "format": 2,
            "family": family.hash,
            "views": family.content,
            "samples": len(family.samples),
            "scores": [asdict(score) for score in live.scores],
            "probe_logits": live.probe_logits,
            **identity,
        }
        self._open(json.loads(json.dumps(manifest)))

    def _open(self, manifest: dict[str, object]) -> None:
        file = self.path / MANIFEST
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                if any(not TEMPORARY.fullmatch(p.name) for p in self.path.iterdir()):
                    raise UserError(f"expected a store or an empty folder at {self.path}, but found other files")
                write_atomic(file, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
            found = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"could not open the store {self.path}: {error}") from error
        if differ := _differences(found if isinstance(found, dict) else {}, manifest):
            raise UserError(
                f"expected a store of this teacher and these views at {self.path}, but it differs in "
                f"{', '.join(differ)}; give another --store or delete it"
            )

    def __call__(self, batch: Batch) -> Lesson:
        """The stored lesson of ``batch``, on its device."""
        parts: dict[str, Tensor] = {}
        for view in batch.views.unique().tolist():
            shard, chosen = self.shard(int(view)), batch.views == view
            for name, values in shard.items():
                rows = values[batch.positions[chosen].cpu()].to(batch.images.device)
                whole = parts.setdefault(name, rows.new_zeros(len(batch.labels), *rows.shape[1:]))
                whole[chosen] = rows
        return Lesson.of(parts)

    def plain(self, samples: Samples, size: int | None = None) -> Lesson:
        """The lesson of images without augmentation, kept as well."""
        name = f"plain-{samples.digest()[:16]}-{size or 0}"
        return Lesson.of(self._kept(name, lambda: self.live.plain(samples, size).tensors()))

    def shard(self, view: int) -> dict[str, Tensor]:
        """All samples of one view number: logits ``[N, C]`` and the columns ``[N]``."""
        if view not in self._shards:
            # One at a time: epochs follow each other.
            self._shards = {view: self._kept(f"view-{view:05d}", lambda: self._ask(view))}
        return self._shards[view]

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        file = self.path / f"{name}.safetensors"
        if file.exists():
            return _read(file)
        content = make()
        write_atomic(file, safetensors.torch.save(content))
        return content

    def _ask(self, view: int) -> dict[str, Tensor]:
        order = self.family.order(view)  # pairs that mix stay together
        device = self.live.teacher.device
        parts = [self.live(batch.to(device)) for batch in self.family.batches(order, view, self.batch_size)]
        back = torch.from_numpy(np.argsort(order))
        return {name: values[back].contiguous() for name, values in Lesson.join(parts).tensors().items()}


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What two manifests differ in; ``views`` spells out the hash of the family, for this message alone."""
    differ = {k for k in {*found, *wanted} - {"views"} if found.get(k) != wanted.get(k)}
    if "family" in differ:
        before, now = found.get("views", {}), wanted["views"]
        differ = differ - {"family"} | {k for k in now if before.get(k) != now[k]}
    return sorted(differ)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        content = safetensors.torch.load_file(file)
        if LOGITS not in content:
            raise ValueError("no logits")
        return content
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged; delete it, so that it is made again") from error
