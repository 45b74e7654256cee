"""Runs to go on with, or to score, that are damaged or a stranger's."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from bad_input_cases.place import Case, Place
from bad_input_cases.weights import Trap, saved

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def _resumed(what: str, says: str, spoil: Callable[[Path], object], *more: object) -> Case:
    """A run that was stopped and has been changed since."""

    def make(place: Place) -> list[str]:
        run = place.copy("stopped")
        spoil(run)
        return place.resume(run, *more)

    return Case("runs", what, make, says)


def _scored(what: str, says: str, spoil: Callable[[Path], object]) -> Case:
    """A finished run that has been changed since, to be scored."""

    def make(place: Place) -> list[str]:
        run = place.copy("teacher")
        spoil(run)
        return ["evaluate", "--weights", str(run)]

    return Case("runs", what, make, says)


def _checkpoints(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change both of them."""

    def spoil(run: Path) -> None:
        changed = content((run / CURRENT).read_bytes())
        for name in (CURRENT, PREVIOUS):
            (run / name).write_bytes(changed)

    return spoil


def signed(payload: bytes) -> bytes:
    """A checkpoint whose digest is right, whatever is in it."""
    return f"dlkd-checkpoint 1 {hashlib.sha256(payload).hexdigest()} {len(payload)}\n".encode("ascii") + payload


def _with_trap(run: Path) -> None:
    _checkpoints(lambda _: signed(saved({"step": Trap(run.parent / "canary")})))(run)


def _flipped(content: bytes) -> bytes:
    return content[:-50] + bytes([content[-50] ^ 1]) + content[-49:]


def _card(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        (run / "run.json").write_text(json.dumps(change(json.loads((run / "run.json").read_text()))))

    return spoil


def _text(name: str, text: str) -> Callable[[Path], object]:
    return lambda run: (run / name).write_text(text)


def _config(**changes: object) -> Callable[[Path], None]:
    def spoil(run: Path) -> None:
        file = run / "config.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))

    return spoil


def _labels(run: Path) -> None:
    with np.load(run / "labels.npz", allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    np.savez_compressed(run / "labels.npz", **{**arrays, "train_labels": arrays["train_labels"][::-1]})


CASES = (
    _resumed("another option than the run had", "with its own settings", lambda _: None, "--optim.lr", 3),
    _resumed("both checkpoints with one bit changed", "expected a good checkpoint", _checkpoints(_flipped)),
    _resumed("both checkpoints cut short", "expected a good checkpoint", _checkpoints(lambda c: c[: len(c) // 2])),
    _resumed("empty checkpoints", "expected a good checkpoint", _checkpoints(lambda _: b"")),
    _resumed("forged checkpoints that run code", "cannot be read", _with_trap),
    _resumed("forged checkpoints that are a list", "holds a list", _checkpoints(lambda _: signed(saved([1])))),
    _resumed("a card cut short", "run.json is damaged", _text("run.json", '{"command": "train"')),
    _resumed("a card 100,000 lists deep", "dlkd: error", _text("run.json", "[" * 100_000)),
    _resumed("a card that is a number", "run.json is damaged", _text("run.json", "3")),
    _resumed("a card of another command", "not of dlkd train", _card(lambda c: {**c, "command": "distill"})),
    _resumed(
        "a card of other images",
        "training images are not those",
        _card(lambda c: {**c, "data": {**c["data"], "images": "x"}}),
    ),
    _resumed("a run without its settings", "start it anew", lambda run: (run / "config.yaml").unlink()),
    _resumed("settings cut short", "could not read the recipe", _text("config.yaml", "data: {name: dig")),
    _resumed(
        "settings that name code",
        "would be imported and run",
        _config(data={"name": "os:system", "root": "touch canary"}),
    ),
    _resumed("labels in another order", "labels are not those", _labels),
    _scored("settings cut short, to be scored", "config.yaml is damaged", _text("config.yaml", "data: {name: dig")),
    _scored("settings that are a list, to be scored", "config.yaml is damaged", _text("config.yaml", "[1, 2]")),
    _scored("aliases of aliases, to be scored", "config.yaml is damaged", _text("config.yaml", "a: &a [*a]\n")),
    _scored(
        "a text for a share, to be scored", "config.yaml is damaged", _config(data={"name": "digits", "noise": "x"})
    ),
    _scored(
        "a command in place of the data, to be scored",
        "would be imported and run",
        _config(data={"name": "os:system", "root": "touch canary"}),
    ),
    _scored("a run whose weights are gone", "it has none", lambda run: os.unlink(run / "student.safetensors")),
)


def _finished(place: Place) -> list[str]:
    run = place.copy("stopped")
    (run / "results.json").write_text("{")
    return place.resume(run)


CASES += (Case("runs", "figures cut short", _finished, "results.json is damaged"),)


def _without_a_layer(run: Path) -> None:
    payload = (run / CURRENT).read_bytes().split(b"\n", 1)[1]
    state = torch.load(io.BytesIO(payload), weights_only=True)
    state["student"].popitem()
    _checkpoints(lambda _: signed(saved(state)))(run)


def _pipe(run: Path) -> None:
    for name in (CURRENT, PREVIOUS):
        (run / name).unlink()
    os.mkfifo(run / CURRENT)


def _loop(place: Place) -> list[str]:
    (place.folder / "loop").symlink_to("loop")
    return place.distill(teacher=place.folder / "loop" / "student.safetensors")


CASES += (
    _resumed("forged checkpoints of nothing", "checkpoint", _checkpoints(lambda _: signed(saved({})))),
    _resumed("forged checkpoints without a layer", "checkpoint", _without_a_layer),
    _resumed("a card without data", "run.json is damaged", _card(lambda card: {"command": card["command"]})),
    _resumed("a pipe in place of a checkpoint", "expected a good checkpoint", _pipe),
    Case("runs", "a teacher behind a link to itself", _loop, "student.safetensors"),
)
