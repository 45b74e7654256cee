"""Shards on disk: safetensors files whose names carry their checksum, read as memory maps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import safetensors
import safetensors.torch
from torch import Tensor

from dlkd.errors import UserError, first_line
from dlkd.files import TEMPORARY, clean_temporaries, held, write_atomic
from dlkd.regular import open_regular
from dlkd.store.manifest import DAMAGED, MANIFEST

LOCKS, SETTINGS, STRONG = ".locks", "config.yaml", "strong"
"""Beside the shards: the locks, the options that the store was made with, the store of the strong views."""
_NAME = re.compile(r"(?P<shard>[a-z0-9-]+)\.(?P<checksum>[0-9a-f]{16})\.safetensors")
_CHUNK = 1 << 20
ELSEWHERE = "it belongs to another store"
"""What is wrong with a shard that is whole, but of other outputs than the manifest's."""
_ABOUT = "shard"
"""The one entry of the metadata: of several, safetensors writes the order by chance, and the bytes with it."""


def is_ours(name: str) -> bool:
    """May a file of this name lie in a store whose manifest is lost?"""
    return name in (LOCKS, SETTINGS, STRONG, DAMAGED) or _NAME.fullmatch(name) is not None


@contextmanager
def locked(folder: Path, name: str, *, wait: bool) -> Iterator[bool]:
    """Hold something of a store alone; false where another process does and ``wait`` is not set.

    The lock of a process that dies is free again.

    Raises:
        UserError: the folder cannot be written to, or its file system has no locks.
    """
    with ExitStack() as stack:
        try:
            (folder / LOCKS).mkdir(exist_ok=True)
            mine = stack.enter_context(held(folder / LOCKS / f"{name}.lock", wait=wait))
        except (OSError, NotImplementedError) as error:
            raise UserError(
                f"could not lock {name} of the store {folder}: {first_line(error)}; give another --store"
            ) from error
        yield mine


class Damage(NamedTuple):
    """A file that is not what was written."""

    file: Path
    reason: str


class Shards:
    """The files of a store.

    A shard ``NAME`` is the file ``NAME.CHECKSUM.safetensors``, its checksum the first 64 bits of the SHA-256 of all its
    bytes: one rename publishes both, so that no reader sees one without the other. Its metadata names the store that it
    belongs to, and the shard.

    Args:
        folder: of the store.
        key: :attr:`Manifest.key`.
        budget: bytes of shards that are mapped at once; the one in use always is.
    """

    def __init__(self, folder: Path, key: str, budget: int = 1 << 30) -> None:
        self.folder, self.key, self.budget = folder, key, budget
        self._open: dict[str, dict[str, Tensor]] = {}
        self._sound: set[Path] = set()

    def find(self, name: str) -> Path | None:
        """The file of a shard, if it is there: the whole name counts, as in :meth:`names`."""
        found = [file for file in self.folder.glob(f"{name}.*.safetensors") if _NAME.fullmatch(file.name)]
        return min(found, default=None)

    def names(self) -> set[str]:
        """Of all shards that are there."""
        return {match["shard"] for file in self.files() if (match := _NAME.fullmatch(file.name))}

    def files(self) -> list[Path]:
        """Every file that looks like a shard."""
        return sorted(self.folder.glob("*.safetensors"))

    def read(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of a shard, mapped from disk, or None where it is not there.

        The first time in a process all its bytes are compared with the checksum.

        Raises:
            UserError: the file is damaged.
        """
        if name in self._open:
            self._open[name] = self._open.pop(name)  # the latest is the last to go
            return self._open[name]
        file = self.find(name)
        if file is None:
            return None
        if file not in self._sound:
            if (damage := self.damage(file)) is not None:
                raise UserError(f"{file} is damaged: {damage.reason}; dlkd store repair --store {self.folder}")
            self._sound.add(file)
        with safetensors.safe_open(file, framework="pt") as content:
            self._open[name] = {key: content.get_tensor(key) for key in content.keys()}
        self._shrink()
        return self._open[name]

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Publish a shard, whole or not at all; what a killed writer of it left goes, so hold its :meth:`lock`.

        Raises:
            UserError: it cannot be written.
        """
        content = safetensors.torch.save(
            {k: v.contiguous() for k, v in tensors.items()}, {_ABOUT: f"{self.key}/{name}"}
        )
        file = self.folder / f"{name}.{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
        clean_temporaries(self.folder, name)
        write_atomic(file, content)
        self._sound.add(file)

    def clean(self) -> None:
        """Remove the unfinished files that killed writers left, not those that others are writing."""
        unfinished = (TEMPORARY.fullmatch(file.name) for file in self.folder.glob(".*.tmp"))
        shards = (_NAME.fullmatch(found[1]) for found in unfinished if found)
        for name in sorted({found["shard"] for found in shards if found}):
            with self.lock(name, wait=False) as mine:
                if mine:
                    clean_temporaries(self.folder, name)
        with self.lock("manifest", wait=False) as mine:
            if mine:
                clean_temporaries(self.folder, MANIFEST)

    def damage(self, file: Path) -> Damage | None:
        """What is wrong with a file, every byte of it looked at."""
        match = _NAME.fullmatch(file.name)
        if match is None:
            return Damage(file, "its name has no checksum")
        digest = hashlib.sha256()
        try:
            with open_regular(file) as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
            if digest.hexdigest()[:16] != match["checksum"]:
                return Damage(file, "its bytes are not those that were written")
            with safetensors.safe_open(file, framework="pt") as opened:
                key, _, shard = (opened.metadata() or {}).get(_ABOUT, "").partition("/")
                if key != self.key:
                    return Damage(file, ELSEWHERE)
                if shard != match["shard"]:
                    return Damage(file, "it is another shard under this name")
        except (OSError, safetensors.SafetensorError) as error:
            return Damage(file, first_line(error))
        return None

    def lock(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold a shard, so that one process makes it; see :func:`locked`."""
        return locked(self.folder, name, wait=wait)

    def _shrink(self) -> None:
        def mapped() -> int:
            return sum(t.nbytes for tensors in self._open.values() for t in tensors.values())

        while len(self._open) > 1 and mapped() > self.budget:
            del self._open[next(iter(self._open))]
