"""What a store holds, in one JSON file that notices every changed byte."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from dlkd.errors import UserError, first_line
from dlkd.files import write_atomic
from dlkd.regular import read_regular
from dlkd.store.storage import ROUNDING, Storage

MANIFEST = "manifest.json"
"""Of a store, in its folder."""
DAMAGED = "manifest.json.damaged"
"""What a repair found in its place: it is kept, since nobody has understood it."""
FORMAT = 3
BYTES, SHARDS = 1 << 26, 10**7
"""Most of a manifest, and of the shards that it may speak of: names of more would not fit into memory."""
_CHECKSUM = "checksum"
REPAIR = "dlkd store repair mends it"
OTHER_VERSION = "{} is a store of another version of dlkd; give another --store or delete it"


class DamagedManifest(UserError):
    """A manifest is gone, or no longer what was written: the store can be mended.

    That of another version, a stranger's file and one that the system does not give are none of these.
    """


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
            DamagedManifest: it is gone or damaged.
            UserError: it is of another version of the format, none of ours, or cannot be read.
        """
        raw, content = _load(folder)
        if content.get("format") != FORMAT and _CHECKSUM not in content:
            raise UserError(OTHER_VERSION.format(folder))
        content.pop(_CHECKSUM, None)
        # The bytes themselves: JSON has many ways to write the same.
        if raw != _text(content).encode():
            raise DamagedManifest(_damaged(folder, "its checksum is not that of its content"))
        if content.pop("format", None) != FORMAT:
            raise UserError(OTHER_VERSION.format(folder))
        # A checksum tells accidents, not strangers, who can make one as well.
        try:
            content["scores"] = tuple((name, tau) for name, tau in content["scores"])
            found = cls(**{**content, "storage": Storage(**content["storage"])})
            found.check()
        except (TypeError, ValueError, KeyError) as error:
            raise DamagedManifest(_damaged(folder, first_line(error))) from error
        return found

    def check(self) -> None:
        """Refuse what no store can be.

        Raises:
            ValueError: a value of another kind, or outside of what is possible.
        """
        for name, value, least in (
            ("samples", self.samples, 1),
            ("classes", self.classes, 1),
            ("rows", self.rows, 1),
            ("views", 0 if self.views is None else self.views, 0),
        ):
            if type(value) is not int or not least <= value < 2**31:
                raise ValueError(f"expected {name} to be a whole number from {least} to 2³¹, but found {value!r:.40}")
        if self.shards * max(1, self.views or 0) > SHARDS:
            raise ValueError(f"expected at most {SHARDS:,} shards, but found {self.shards} in {self.views} views")
        for score, tau in self.scores:
            if not isinstance(score, str) or type(tau) not in (int, float) or not 0 < tau < math.inf:
                raise ValueError(f"expected scores with their temperature, but found {score!r:.40} at {tau!r:.40}")
        content = self.identity.get("content", {}) if isinstance(self.identity, dict) else None
        probes = self.identity.get("probes", []) if isinstance(self.identity, dict) else None
        if not isinstance(content, dict) or not isinstance(probes, list) or not isinstance(self.made_by, dict):
            raise ValueError("expected identity and made_by to be groups of values")
        if not all(isinstance(probe, dict) for probe in probes) or type(self.probe_logits) is not bool:
            raise ValueError("expected the probes to be groups of values, and probe_logits to be true or false")
        dtype, top_k = self.storage.dtype, self.storage.top_k
        if dtype not in ROUNDING or (top_k is not None and (type(top_k) is not int or not 1 <= top_k < self.classes)):
            raise ValueError(f"expected a form of storage, but found {dtype!r:.40} and {top_k!r:.40}")

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


def _load(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a manifest, and the JSON object in them, of whatever version."""
    try:
        raw = read_regular(folder / MANIFEST, BYTES)
        content = json.loads(raw)
    except (FileNotFoundError, ValueError, RecursionError) as error:
        raise DamagedManifest(_damaged(folder, first_line(error))) from error
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise UserError(f"could not open the store {folder}: {MANIFEST} cannot be read ({reason})") from error
    if not _is_ours(content):
        raise UserError(
            f"could not open the store {folder}: its {MANIFEST} is that of another program; give another --store"
        )
    return raw, content


def _is_ours(content: object) -> bool:
    """Has some version of dlkd written this JSON? One changed byte spoils the name of one entry."""
    if not isinstance(content, dict):
        return False
    names = {"format", *(field.name for field in fields(Manifest))}
    if _CHECKSUM in content or content.get("format") == FORMAT:
        return len(names & content.keys()) >= len(names) // 2
    # The first stores had no format, but their family.
    return not content or type(content.get("format")) is int or "family" in content


def _damaged(folder: Path, reason: str) -> str:
    return f"could not open the store {folder}: {MANIFEST} is damaged ({reason}); {REPAIR}"


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps({**content, _CHECKSUM: _hash(content)}, indent=2, sort_keys=True) + "\n"


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
