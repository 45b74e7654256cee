"""Stores that are damaged, stale, or a stranger's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import yaml

from bad_input_cases.place import SMALL, STUDENT, Case, Place

MANIFEST = "manifest.json"


def _shard(store: Path) -> Path:
    return min(store.glob("view-*.safetensors"))


def _rewritten(store: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """A manifest that says something else, with a checksum that is right."""
    content = change(json.loads((store / MANIFEST).read_text()))
    content.pop("checksum", None)
    content["checksum"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (store / MANIFEST).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _reshard(store: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    """A shard that holds something else, with a checksum that is right."""
    file = _shard(store)
    with safetensors.safe_open(file, framework="pt") as opened:
        about, tensors = opened.metadata(), {key: opened.get_tensor(key).clone() for key in opened.keys()}
    content = safetensors.torch.save(change(tensors), about)
    file.unlink()
    (store / f"{file.name.split('.')[0]}.{hashlib.sha256(content).hexdigest()[:16]}.safetensors").write_bytes(content)


def _flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def _spoilt(
    what: str, says: str, command: str, spoil: Callable[[Path], object], *more: object, leaves: tuple[str, ...] = ()
) -> Case:
    """A sound store that something is done to, and a command that meets it."""

    def make(place: Place) -> list[str]:
        store = place.copy("store")
        spoil(store)
        if command in ("verify", "info"):
            return ["store", command, "--store", str(store)]
        if command == "repair":
            return ["store", "repair", "--store", str(store), "--out", str(place.folder / "new"), *map(str, more)]
        return place.build(store, *more) if command == "build" else place.with_store(store, *more)

    return Case("stores", what, make, says, leaves=leaves)


def _manifest(what: str, says: str, command: str = "info", **changes: object) -> Case:
    return _spoilt(what, says, command, lambda store: _rewritten(store, lambda content: {**content, **changes}))


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """A shard that becomes something else than a file."""

    def spoil(store: Path) -> None:
        file = _shard(store)
        file.unlink()
        make(file)

    return spoil


def _settings(store: Path, **changes: object) -> None:
    settings = yaml.safe_load((store / "config.yaml").read_text())
    (store / "config.yaml").write_text(yaml.safe_dump({**settings, **changes}))


def _link_locks(place: Place) -> list[str]:
    """Locks that would empty another file."""
    store, victim = place.copy("store"), place.write("precious", "mine")
    (store / ".locks").mkdir(exist_ok=True)
    for lock in (store / ".locks").iterdir():
        lock.unlink()
    for name in ("manifest", *(file.name.split(".")[0] for file in store.glob("*.safetensors"))):
        (store / ".locks" / f"{name}.lock").symlink_to(victim)
    _shard(store).unlink()
    return place.with_store(store)


def _other_teacher(place: Place) -> list[str]:
    teacher = place.copy("teacher")
    tensors = safetensors.torch.load_file(teacher / "student.safetensors")
    tensors["fc.bias"] += 1
    safetensors.torch.save_file(tensors, teacher / "student.safetensors")
    return place.distill("--store", place.sound / "store", teacher=teacher)


def _of_others(place: Place) -> list[str]:
    return place.build(place.write("folder/thesis.txt", "precious").parent)


def _untrue(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**tensors, "logits": torch.randn_like(tensors["logits"].float()).to(tensors["logits"].dtype)}


CASES = (
    Case("stores", "a store that is not there", lambda p: ["store", "verify", "--store", "none"], "there is none"),
    Case("stores", "build without --store", lambda p: ["store", "build", *p.distill()[1:]], "expected --store"),
    Case("stores", "a file where the store should be", lambda p: p.build(p.write("store", "mine")), "could not open"),
    Case("stores", "a folder with other files", _of_others, "found other files"),
    Case("stores", "a method without a teacher", lambda p: p.build(p.folder / "s", "--method", "ce"), "a teacher"),
    Case(
        "stores",
        "more of the largest logits than there are classes",
        lambda p: p.build(p.folder / "s", "--storage.top_k", 10),
        "top_k",
        leaves=("s",),
    ),
    Case(
        "stores",
        "a disk that is full at the first shard",
        lambda p: p.build(p.folder / "s"),
        "is the disk full?",
        process=True,
        file_limit=5000,
        leaves=("s",),
    ),
    Case("stores", "another teacher", _other_teacher, "differs in teacher"),
    Case("stores", "statistics of the batch", lambda p: p.build(p.folder / "s", "--probe.norm", "batch"), "company"),
    _spoilt("views of another seed", "differs in seed", "distill", lambda _: None, "--seed", 1),
    _spoilt("another form", "differs in storage", "distill", lambda _: None, "--storage.dtype", "fp32"),
    _spoilt("probes of another sparsity", "differs in probes", "distill", lambda _: None, "--probe.sparsity", 0.5),
    _spoilt("a manifest with one bit changed", "manifest.json is damaged", "verify", lambda s: _flip(s / MANIFEST)),
    _spoilt("a manifest cut short", "damaged", "distill", lambda s: (s / MANIFEST).write_text('{"format": 3,')),
    _spoilt("a manifest 100,000 lists deep", "damaged", "info", lambda s: (s / MANIFEST).write_text("[" * 100_000)),
    _spoilt(
        "a manifest of 100 MB", "larger than 64 MB", "verify", lambda s: (s / MANIFEST).write_text(" " * 100_000_000)
    ),
    _spoilt("a manifest of another version", "another version", "info", lambda s: (s / MANIFEST).write_text("{}")),
    _manifest("a forged manifest: 10¹⁸ views", "views to be", "verify", views=10**18),
    _manifest("a forged manifest: 2 · 10⁹ views of two shards", "at most 10,000,000 shards", "verify", views=2 * 10**9),
    _manifest("a forged manifest: shards of 0 rows", "rows to be", rows=0),
    _manifest("a forged manifest: a text for a number", "samples to be", samples="many"),
    _manifest("a forged manifest: scores that are none", "damaged", scores=[1, 2]),
    _manifest("a forged manifest: no such form", "form of storage", storage={"dtype": "fp1", "top_k": None}),
    _manifest("a forged manifest: a field too many", "damaged", extra=1),
    _manifest("a forged manifest: an identity that is a list", "identity", identity=[]),
    _spoilt("a shard with one bit changed", "are damaged", "verify", lambda s: _flip(_shard(s))),
    _spoilt("the same, met by a run", "is damaged", "distill", lambda s: _flip(_shard(s))),
    _spoilt(
        "a shard cut short", "are damaged", "verify", lambda s: _shard(s).write_bytes(_shard(s).read_bytes()[:999])
    ),
    _spoilt("a shard that is gone", "are missing", "verify", lambda s: _shard(s).unlink()),
    _spoilt("a folder in place of a shard", "ordinary file", "verify", _replaced(lambda f: f.mkdir())),
    _spoilt("a pipe in place of a shard", "ordinary file", "verify", _replaced(os.mkfifo)),
    _spoilt(
        "a link to a device without end", "ordinary file", "verify", _replaced(lambda f: f.symlink_to("/dev/zero"))
    ),
    _spoilt("a link to nothing in place of a shard", "damaged", "verify", _replaced(lambda f: f.symlink_to("nowhere"))),
    _spoilt(
        "a folder in place of a shard, to be repaired", "could not delete", "repair", _replaced(lambda f: f.mkdir())
    ),
    _spoilt(
        "a forged shard without logits",
        "not in it",
        "distill",
        lambda s: _reshard(s, lambda t: {k: v for k, v in t.items() if k != "logits"}),
    ),
    _spoilt(
        "a forged shard of too few rows",
        "expected",
        "distill",
        lambda s: _reshard(s, lambda t: {k: v[:3] for k, v in t.items()}),
    ),
    _spoilt(
        "a forged shard with lessons of its own",
        "does not say what the store",
        "distill",
        lambda s: _reshard(s, _untrue),
    ),
    Case("stores", "locks that are links to another file", _link_locks, "link to another place"),
    _spoilt(
        "settings that are broken, to be repaired",
        "config.yaml",
        "repair",
        lambda s: (s / "config.yaml").write_text("a: ["),
    ),
    _spoilt(
        "settings that name code, to be repaired",
        "would be imported and run",
        "repair",
        lambda s: _settings(s, data={"name": "os:system", "root": "touch canary"}),
    ),
    Case(
        "stores", "repair without --store", lambda p: ["store", "repair", *SMALL, "--student.name", STUDENT], "--store"
    ),
)
