"""Weights from strangers, and what stands beside them."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bad_input_cases.place import STUDENT, Case, Place
from dlkd.models import build_model

NAME = ("--teacher.name", STUDENT)
CLASSES = tuple("0123456789")


class Trap:
    """Makes the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def state() -> dict[str, torch.Tensor]:
    """The weights of a model that would fit."""
    return dict(build_model(STUDENT, 10, channels=1).state_dict())


def saved(content: object) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def packed(content: bytes, size: int) -> bytes:
    """The same zip archive, its largest member so many zeros, and packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        largest = max(old.infolist(), key=lambda entry: entry.file_size).filename
        for name in old.namelist():
            new.writestr(name, bytes(size) if name == largest else old.read(name))
    return buffer.getvalue()


def _file(what: str, says: str, name: str, content: Callable[[Place], bytes]) -> Case:
    def make(place: Place) -> list[str]:
        return place.distill(*NAME, teacher=place.write(name, content(place)))

    return Case("weights", what, make, says)


def _changed(what: str, says: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Case:
    """A file of ``torch.save`` with the weights of a model that would fit, but for a change."""

    def content(_: Place) -> bytes:
        tensors = state()
        changed = change(tensors)
        return saved(tensors if changed is None else changed)

    return _file(what, says, "w.pth", content)


def _described(what: str, says: str, change: Callable[[dict[str, Any]], str | dict[str, Any]]) -> Case:
    """A run whose ``student.json`` says something else."""

    def make(place: Place) -> list[str]:
        file = place.copy("teacher") / "student.json"
        changed = change(json.loads(file.read_text()))
        file.write_text(changed if isinstance(changed, str) else json.dumps(changed))
        return place.distill(teacher=file.parent)

    return Case("weights", what, make, says)


def _input(values: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    return {**values, "input": {"mean": [0.5], "std": [0.5], "resolution": None, key: value}}


def _not_numbers(place: Place) -> list[str]:
    file = place.copy("teacher") / "student.safetensors"
    save_file({k: v * float("nan") if v.is_floating_point() else v for k, v in load_file(file).items()}, file)
    return place.distill(teacher=file.parent)


def _pipe(place: Place) -> list[str]:
    os.mkfifo(place.folder / "w.safetensors")
    return place.distill(*NAME, teacher=place.folder / "w.safetensors")


def _put(key: str, value: Callable[[torch.Tensor], object]) -> Callable[[dict[str, Any]], None]:
    return lambda tensors: tensors.update({key: value(tensors[key])})


def _escaped(tensors: dict[str, torch.Tensor]) -> None:
    tensors["\x1b[31mconv\n1"] = tensors.pop("conv1.weight")


def _code(place: Place) -> bytes:
    return pickle.dumps({"state_dict": Trap(place.canary)})


CASES = (
    Case("weights", "no such file", lambda p: p.distill(teacher=p.folder / "none"), "there is nothing"),
    Case("weights", "a folder without weights", lambda p: p.distill(teacher=p.copy("photos")), "to be a weights file"),
    Case("weights", "a pipe that nobody writes to", _pipe, "there is none"),
    _file("an empty file", "damaged", "w.safetensors", lambda _: b""),
    _file("a text", "damaged", "w.pth", lambda _: b"these are my weights"),
    _file("a page of HTML under the name of weights", "damaged", "w.safetensors", lambda _: b"<!doctype html>" * 99),
    _file(
        "half of a .safetensors",
        "damaged",
        "w.safetensors",
        lambda p: (p.teacher / "student.safetensors").read_bytes()[:1000],
    ),
    _file("half of a .pth", "damaged", "w.pth", lambda _: saved(state())[:9000]),
    _file("a header of 2⁶⁰ bytes", "damaged", "w.safetensors", lambda _: struct.pack("<Q", 1 << 60) + b"{}"),
    _file("a pickle that runs code", "it could run code", "w.pth", _code),
    _file("a .pth that runs code", "it could run code", "w.pth", lambda p: saved({"state_dict": Trap(p.canary)})),
    _file("a whole model instead of its weights", "it could run code", "w.pth", lambda _: saved(torch.nn.Linear(2, 2))),
    _file(
        "an archive that unpacks to 1,000 times its size", "unpack", "w.pth", lambda _: packed(saved(state()), 1 << 28)
    ),
    _changed("a list of numbers", "found list", lambda _: [1, 2, 3]),
    _changed("a number among the tensors", "named tensors only", lambda t: {**t, "epoch": 3}),
    _changed("other classes", "have 7", lambda _: build_model(STUDENT, 7, channels=1).state_dict()),
    _changed("another model", "does not fit", lambda _: build_model("resnet14", 10, channels=1).state_dict()),
    _changed("a name with a terminal code", "unexpected: ?[31mconv?1", _escaped),
    _changed("a sparse tensor", "dense tensors", _put("fc.weight", lambda w: w.to_sparse())),
    _changed("a tensor without numbers", "dense tensors", _put("fc.weight", lambda w: w.to("meta"))),
    _changed("complex numbers", "dense tensors", _put("fc.weight", lambda w: w.to(torch.complex64))),
    _changed(
        "a tensor of 10¹⁸ numbers in four bytes",
        "shapes",
        _put("fc.weight", lambda _: torch.zeros(1).expand(10**9, 10**9)),
    ),
    Case("weights", "numbers that are none", _not_numbers, "not finite"),
    _described("a description cut short", "student.json is damaged", lambda _: '{"format": 1, "mod'),
    _described("a description 100,000 lists deep", "student.json is damaged", lambda _: "[" * 100_000),
    _described("a description for a later version", "update dlkd", lambda v: {**v, "format": 9}),
    _described("infinitely many classes", "student.json is damaged", lambda v: {**v, "num_classes": float("inf")}),
    _described("10¹² classes", "student.json is damaged", lambda v: {**v, "num_classes": 10**12, "class_names": []}),
    _described("fewer names than classes", "class names", lambda v: {**v, "class_names": ["a"]}),
    _described("other classes than the data", "no '0'", lambda v: {**v, "class_names": list("abcdefghij")}),
    _described("a mean of 400 digits", "student.json is damaged", lambda v: _input(v, "mean", [10**400])),
    _described("a deviation of 0", "positive finite", lambda v: _input(v, "std", [0])),
    _described("an input of 10⁹ pixels a side", "at most", lambda v: _input(v, "resolution", 10**9)),
    _described("a model that would be code", "would be imported and run", lambda v: {**v, "model": "antigravity:make"}),
    _described("a model that there is not", "known model", lambda v: {**v, "model": "resnet9000"}),
    _described("a card that is a number", "student.json is damaged", lambda v: {**v, "card": 3}),
    Case(
        "weights",
        "names of classes that are no text",
        lambda p: p.distill("--teacher.classes", p.write("names.txt", b"\xff\xfe\x00")),
        "class names",
    ),
    Case(
        "weights",
        "names of classes 100,000 lists deep",
        lambda p: p.distill("--teacher.classes", p.write("names.json", "[" * 100_000)),
        "names.json",
    ),
    Case(
        "weights",
        "a student that begins with a pickle that runs code",
        lambda p: p.distill("--student.weights", p.write("w.pth", _code(p))),
        "it could run code",
    ),
    Case(
        "weights",
        "evaluate a pickle that runs code",
        lambda p: ["evaluate", "--name", STUDENT, "--data.per_class", "30", "--weights", p.write("w.pth", _code(p))],
        "it could run code",
    ),
    Case(
        "weights",
        "difficulty by half a file",
        lambda p: ["difficulty", *NAME, "--teacher.weights", p.write("w.pth", saved(state())[:999])],
        "damaged",
    ),
)
