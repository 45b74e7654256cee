"""``dlkd store build | verify | repair | info``."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.data.pixels import file_size
from dlkd.errors import UserError, first_few, printable
from dlkd.jobs.run import save_store_settings
from dlkd.store import (
    DAMAGED,
    MANIFEST,
    Damage,
    DamagedManifest,
    Manifest,
    Shard,
    Shards,
    StoredLessons,
    build,
    damages,
    minutes,
    plan,
)
from dlkd.store.manifest import SHARDS
from dlkd.store.shards import ELSEWHERE, STRONG
from dlkd.train.interrupt import Interrupted, StopRequest
from dlkd.train.lessons import check_stores, stores
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session
from dlkd.train.setup import make_session


@dataclass(frozen=True)
class StoreFolder:
    """A store by itself.

    Attributes:
        store: its folder.
    """

    store: Path


def build_store(options: DistillOptions) -> dict[str, Any]:
    """Make the lessons of a run beforehand; the options are those of the run, a recipe included. Returns what was made.

    The same command in several processes at once divides the work among them. What is there is not made again.

    Raises:
        UserError: bad options, another teacher's store, a full disk.
        Interrupted: told to stop; the shards that are made stay.
    """
    session = _session(options)
    save_store_settings(session, options)
    check_stores(session)
    return _fill(session, options)


def repair_store(options: DistillOptions) -> dict[str, Any]:
    """Delete what is damaged and make it again, nothing else. Returns what was deleted and made.

    A damaged manifest is renamed, not deleted, and put back where it cannot be written anew.

    Raises:
        UserError: see :func:`build_store`; a manifest of another version, a stranger's, or one that cannot be read.
    """
    folder = _folder(options)
    lost = [part for part in (folder, folder / STRONG) if part.is_dir() and _has_lost_manifest(part)]
    with _put_aside(lost):
        session = _session(options)
        found = {stored: damages(stored.shards) for stored in stores(session)}
        for stored, bad in found.items():
            if stored.path in lost and any(damage.reason == ELSEWHERE for damage in bad):
                (stored.path / MANIFEST).unlink()
                raise UserError(
                    f"the manifest of {stored.path} is lost, and with these options it would be that of another store, "
                    "not of the shards that lie there; give the options that they were made with, or delete the store"
                )
    deleted: list[str] = []
    for stored, bad in found.items():
        stored.shards.clean()
        for damage in bad:
            _delete(damage.file)
            deleted.append(damage.file.name)
            print(f"{damage.file.name}: {damage.reason}; deleted")
    save_store_settings(session, options)
    check_stores(session)
    return {**_fill(session, options), "deleted": deleted}


def _has_lost_manifest(part: Path) -> bool:
    """Is it gone or damaged? Where it cannot be read for another reason, that is raised."""
    try:
        Manifest.read(part)
    except DamagedManifest as error:
        print(f"{error}; it is written anew")
        return True
    return False


@contextlib.contextmanager
def _put_aside(parts: Sequence[Path]) -> Iterator[None]:
    """Damaged manifests give way to new ones under another name, and come back if the block fails."""
    aside: list[Path] = []
    try:
        for part in parts:
            with contextlib.suppress(FileNotFoundError):
                _rename(part / MANIFEST, part / DAMAGED)
                aside.append(part)
        yield
    except BaseException:
        for part in aside:
            _rename(part / DAMAGED, part / MANIFEST)
        raise


def _rename(file: Path, to: Path) -> None:
    try:
        file.replace(to)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"could not rename {file}: {error.strerror}; rename it yourself") from error


def _delete(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        raise UserError(f"could not delete {file}: {error.strerror}; delete it yourself") from error


def verify_store(options: StoreFolder) -> dict[str, Any]:
    """Compare every byte of a store with its checksums; no teacher is needed. Returns how many shards were read.

    Raises:
        UserError: something is damaged, or missing of the views that the store was built for or has begun; the first
            few are named.
    """
    found, views = 0, 0
    bad: list[Damage] = []
    lost: list[str] = []
    for part in _parts(options.store):
        manifest = Manifest.read(part)
        shards = Shards(part, manifest.key)
        found += len(shards.files())
        bad += damages(shards)
        there = shards.names()
        begun = _begun_views(manifest, there)
        lost += [shard.name for shard in manifest.expected(begun) if shard.name not in there]
        views = max(views, begun)
    if bad:
        named = first_few([f"{damage.file.name} ({damage.reason})" for damage in bad])
        raise UserError(
            f"{len(bad)} of {found} shards of {options.store} are damaged: {named}; "
            f"dlkd store repair --store {options.store}"
        )
    if lost:
        raise UserError(
            f"{options.store} was to hold {found + len(lost)} shards, but {len(lost)} are missing: {first_few(lost)}; "
            f"dlkd store repair --store {options.store}, or the same dlkd store build again, makes them"
        )
    print(f"{options.store}: {found} shards, {views} views of each image, every byte as it was written")
    return {"store": options.store, "shards": found}


def _begun_views(manifest: Manifest, there: set[str]) -> int:
    """How many view numbers have to be whole: those that it was built for, and each up to the highest that is there.

    A name may be a stranger's: no more than a manifest may speak of.
    """
    numbers = [int(match[1]) for name in there if (match := re.fullmatch(r"view-(\d+)-\d+", name))]
    return max(manifest.views or 0, min(max(numbers, default=-1) + 1, SHARDS // manifest.shards))


def store_info(options: StoreFolder) -> dict[str, Any]:
    """Say what a store holds; returns it, by the name of the part.

    Raises:
        UserError: it is none, or its manifest is damaged.
    """
    about: dict[str, Any] = {}
    for part in _parts(options.store):
        manifest = Manifest.read(part)
        shards = Shards(part, manifest.key)
        size = sum(max(0, file_size(file)) for file in shards.files())
        parts = Counter(name.split("-")[1] for name in shards.names() if name.startswith("view-"))
        whole = [view for view, count in parts.items() if count == manifest.shards]
        storage = manifest.storage
        logits = "all logits" if storage.top_k is None else f"the {storage.top_k} largest logits"
        probes = [probe.get("sparsity") for probe in manifest.identity.get("probes", [])]
        table = Table(title=Text(printable(str(part))), show_header=False, title_justify="left")
        for name, value in (
            ("samples, classes", f"{manifest.samples}, {manifest.classes}"),
            ("views", f"{len(whole)} whole" + (f" of {manifest.views}" if manifest.views is not None else "")),
            ("kept", f"{logits} in {storage.dtype}" + (", of the probes too" if manifest.probe_logits else "")),
            ("difficulties", ", ".join(f"{name} at τ = {tau:g}" for name, tau in manifest.scores) or "none"),
            ("probes, sparsity", ", ".join(map(str, probes)) or "none"),
            ("size", f"{size / 1e9:.3f} GB in {len(shards.files())} shards"),
            ("teacher", str(manifest.identity.get("teacher", ""))[:16]),
            ("view family", str(manifest.identity.get("family", ""))[:16]),
            ("made by", ", ".join(f"{k} {v}" for k, v in manifest.made_by.items())),
        ):
            # Text, not markup: a manifest may be a stranger's.
            table.add_row(name, Text(printable(value)))
        Console().print(table)
        about["plain" if part == options.store else part.name] = {
            **{name: getattr(manifest, name) for name in ("samples", "classes", "views", "probe_logits", "identity")},
            "whole_views": len(whole),
            "storage": storage,
            "scores": manifest.scores,
            "shards": len(shards.files()),
            "bytes": size,
            "made_by": manifest.made_by,
        }
    return {"store": options.store, "parts": about}


def _session(options: DistillOptions) -> Session:
    """Data, teacher and stores."""
    _folder(options)
    session = make_session(options)
    if session.teaching is None:
        raise UserError(f"expected a method with a teacher to fill a store, but got {options.method}")
    for remark in session.remarks:
        session.say(f"note: {remark}")
    return session


def _fill(session: Session, options: DistillOptions) -> dict[str, Any]:
    made = 0
    views = max(options.storage.views or session.epochs, options.probe.level_views)
    with StopRequest() as stop:
        for stored in stores(session):
            made += _fill_one(stored, views, stop)
            if stop:
                raise Interrupted(f"stopped; the same command goes on with the store {stored.path}")
        first = stores(session)[0]
        first.plain(session.scored, session.size)
    print(f"{options.store}: whole, {views} views of each image")
    return {"store": options.store, "views": views, "shards_made": made}


def _fill_one(stored: StoredLessons, views: int, stop: StopRequest) -> int:
    todo = plan(stored, views)
    print(f"{stored.path}: {todo.sentence()}", flush=True)
    left = len(todo.shards)

    def made(shard: Shard) -> None:
        nonlocal left
        left -= 1
        rest = todo.seconds * left / len(todo.shards)
        print(f"  view {shard.view}, part {shard.part + 1}: made, about {minutes(rest)} left", flush=True)

    build(stored, views, stop=lambda: bool(stop), made=made)
    return len(todo.shards) - left


def _folder(options: DistillOptions) -> Path:
    if options.store is None:
        raise UserError("expected --store FOLDER, but got none")
    return options.store


def _parts(folder: Path) -> list[Path]:
    """The store, and beside it that of the strong views where there is one."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"expected a store at {folder}, but there is none; make it with dlkd store build")
    return [folder, *([folder / STRONG] if (folder / STRONG / MANIFEST).is_file() else [])]
