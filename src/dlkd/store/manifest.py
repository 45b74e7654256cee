"""What a store holds, in one JSON file that notices every changed byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from dlkd.errors import UserError
from dlkd.files import write_atomic
from dlkd.store.storage import Storage

MANIFEST = "manifest.json"
FORMAT = 3
_CHECKSUM = "checksum"
REPAIR = "dlkd store repair mends it"
OTHER_VERSION = "{} is a store of another version of dlkd; give another --store or delete it"


class Shard(NamedTuple):
    """Some rows of one view number."""

    view: int
    part: int

    @property
    def name(self) -> str:
        """Of its file, without the checksum."""
        return f"view-{self.view:05d}-{self.part:04d}"


@dataclass(frozen=True)
class Manifest:
    """The settled facts of a store.

    Args:
        identity: all that the kept outputs depend on, as JSON values: hashes of data, view family, teacher and probes,
            with what they are made of spelt out. Another identity is another store.
        samples, classes: of the training set.
        scores: the difficulties kept of each probe; a run may need fewer.
        probe_logits: are the probes' logits kept as well? A run may do without.
        storage: form of the logits.
        rows: samples in a shard.
        views: view numbers that the store is built for; None where it grows with the runs that use it.
        made_by: versions and machine, to be read by people.
    """

    identity: dict[str, Any]
    samples: int
    classes: int
    scores: tuple[tuple[str, float], ...]
    probe_logits: bool
    storage: Storage
    rows: int
    views: int | None
    made_by: dict[str, Any]

    @property
    def key(self) -> str:
        """Names the content of the shards; each carries it."""
        content = self._content()
        for free in ("views", "made_by"):
            del content[free]
        return _hash(content)

    @property
    def shards(self) -> int:
        """Shards of one view number."""
        return -(-self.samples // self.rows)

    def expected(self, views: int) -> list[Shard]:
        """The shards of the first ``views`` view numbers."""
        return [Shard(view, part) for view in range(views) for part in range(self.shards)]

    def write(self, folder: Path) -> None:
        """Write it whole or not at all."""
        write_atomic(folder / MANIFEST, _text(self._content()))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and check it.

        Raises:
            UserError: it is damaged, or of another version of the format.
        """
        file = folder / MANIFEST
        try:
            raw = file.read_bytes()
            content = json.loads(raw)
            if not isinstance(content, dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            raise UserError(f"could not open the store {folder}: {MANIFEST} is damaged ({error}); {REPAIR}") from error
        if content.get("format") != FORMAT and _CHECKSUM not in content:
            raise UserError(OTHER_VERSION.format(folder))
        content.pop(_CHECKSUM, None)
        # The bytes themselves: JSON has many ways to write the same.
        if raw != _text(content).encode():
            raise UserError(f"could not open the store {folder}: {MANIFEST} is damaged; {REPAIR}")
        if content.pop("format") != FORMAT:
            raise UserError(OTHER_VERSION.format(folder))
        content["scores"] = tuple((name, tau) for name, tau in content["scores"])
        return cls(**{**content, "storage": Storage(**content["storage"])})

    def grown(self, views: int | None) -> Manifest:
        """The same store built for ``views``, if that is more."""
        if views is None or (self.views is not None and self.views >= views):
            return self
        return replace(self, views=views)

    def lacks(self, wanted: Manifest) -> list[str]:
        """What ``wanted`` needs and this store has not, or has otherwise; ``family`` is spelt out in ``content``."""
        mine, theirs = self.identity, wanted.identity
        differ = {k for k in {*mine, *theirs} - {"content"} if mine.get(k) != theirs.get(k)}
        if "family" in differ:
            before, now = mine.get("content", {}), theirs.get("content", {})
            parts = {k for k in {*before, *now} if before.get(k) != now.get(k)}
            differ = differ - {"family"} | (parts or {"family"})
        if (self.samples, self.classes) != (wanted.samples, wanted.classes):
            differ.add("samples")
        if not set(wanted.scores) <= set(self.scores):
            differ.add("scores")
        if wanted.probe_logits and not self.probe_logits:
            differ.add("probe_logits")
        return sorted(differ)

    def _content(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps({**content, _CHECKSUM: _hash(content)}, indent=2, sort_keys=True) + "\n"


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
