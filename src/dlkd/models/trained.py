"""Trained models: from a file, from one of our runs, or published; and how ours are written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from dlkd.errors import UserError, first_line
from dlkd.files import write_atomic
from dlkd.models.checkpoint import CheckpointError, load_weights
from dlkd.models.input_format import MAX_SIDE, InputFormat
from dlkd.models.published import published
from dlkd.models.registry import build_model, default_input_format, resolve_name
from dlkd.run_folder import unfinished

STUDENT_FILE = "student.safetensors"
"""The weights in a run folder; what they are is in the JSON file beside them."""
DESCRIPTION_BYTES = 1 << 26
"""Most of that JSON file."""


class LoadedModel(NamedTuple):
    """A trained model and what is known of it."""

    module: nn.Module
    """In eval mode, on the CPU."""
    input_format: InputFormat
    card: dict[str, object]
    """What is known of its training; empty for files that are not ours."""
    weights_hash: str
    """:func:`state_hash` of its weights."""
    class_names: tuple[str, ...] | None = None
    """Of its outputs, in order, where that is known."""
    name: str = ""


class _Description(NamedTuple):
    """The JSON file beside weights of ours."""

    model: str
    num_classes: int
    channels: int
    input_format: InputFormat
    class_names: tuple[str, ...] | None
    card: dict[str, object]


def load_model(
    name: str | None,
    weights: Path | None,
    num_classes: int,
    *,
    channels: int = 3,
    pretrained: bool = False,
    input_format: InputFormat | None = None,
    own_classes: bool = False,
    prefix: str = "",
) -> LoadedModel:
    """Build a model and load trained weights, from ``weights`` or as published (``pretrained``).

    Args:
        name: see :func:`dlkd.models.build_model`; may be ``None`` for weights of ours.
        weights: a ``.safetensors`` or ``torch.save`` file, or a run folder of ours.
        num_classes, channels: of the data. They are checked, never adapted.
        pretrained: download what is published under this name; a factory gives a trained model itself.
        input_format: wins over the one in the JSON file of ours and over :func:`default_input_format`.
        own_classes: weights of ours, and published ones with names of their classes, may be for other classes; what
            they say wins over ``num_classes``.
        prefix: what stands before ``name``, ``weights`` and ``pretrained`` in messages, as ``--teacher.``.

    Raises:
        CheckpointError: no weights, or weights that are missing, damaged, or for another model.
        ValueError: a name that is unknown, or is not the one that the weights were saved with.
    """
    described: _Description | None = None
    class_names: tuple[str, ...] | None = None
    if weights is None:
        if not pretrained:
            raise CheckpointError(
                f"expected trained weights for {name or 'the model'}, but got none; "
                f"give {prefix}weights RUN_OR_FILE or {prefix}pretrained true"
            )
        name = _stated(name, "published weights", prefix)
        found = published(name, num_classes, channels, prefix, own_classes=own_classes)
        module, class_names = found.module, found.class_names
    else:
        _check_one_source(weights, pretrained)
        path = _weights_file(Path(weights))
        described = _read_description(path, None if own_classes else num_classes, channels)
        if described is None:
            name = _stated(name, str(path), prefix)
        else:
            name, num_classes = _agreed_name(name, described.model, path, prefix), described.num_classes
        module = build_model(name, num_classes, channels=channels)
        load_weights(module, path, num_classes=num_classes)
    if input_format is None:
        input_format = described.input_format if described else default_input_format(name, num_classes, channels)
    card: dict[str, object] = {}
    if described is not None:
        card, class_names = described.card, described.class_names
    return LoadedModel(module.eval(), input_format, card, state_hash(module.state_dict()), class_names, name)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and raw bytes, in the order of the names: 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_student(
    folder: Path,
    state: Mapping[str, Tensor],
    *,
    name: str,
    num_classes: int,
    channels: int,
    input_format: InputFormat,
    class_names: Sequence[str],
    card: Mapping[str, object],
) -> None:
    """Write ``student.safetensors`` and ``student.json``, which :func:`load_model` reads, each atomically.

    Args:
        state: the ``state_dict`` of a model made by ``build_model(name, num_classes, channels=channels)``.
        card: what is known of the training; anything that JSON can hold.

    Raises:
        UserError: the folder cannot be written.
    """
    stated = repr(name) if resolve_name(name).source == "factory" else None
    description = {
        "format": 1,
        "model": name,
        "num_classes": num_classes,
        "channels": channels,
        "input": input_format.to_dict(),
        "class_names": list(class_names),
        "card": dict(card),
        "load": "from pathlib import Path\n"
        "from dlkd.models import load_model\n"
        f"student = load_model({stated}, Path({STUDENT_FILE!r}), {num_classes}, channels={channels})\n"
        f"# images [B, {channels}, H, W] in [0, 1]: logits = student.module(student.input_format(images))\n",
    }
    text = json.dumps(description, indent=2) + "\n"
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    path = folder / STUDENT_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, safetensors.torch.save(tensors))
        write_atomic(path.with_suffix(".json"), text)
    except OSError as error:
        raise UserError(f"could not write to {folder}: {error.strerror}; choose another folder") from error


def _check_one_source(weights: Path | None, pretrained: bool) -> None:
    if pretrained and weights is not None:
        raise CheckpointError(f"expected either a weights file or pretrained, but got both ({weights})")


def _stated(name: str | None, what: str, prefix: str) -> str:
    if name is None:
        raise CheckpointError(f"expected a model name for {what}, which do not say what they are of; give {prefix}name")
    return name


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / STUDENT_FILE).is_file():
        missing = f"expected {path} to be a weights file or a run with {STUDENT_FILE}, but it has none"
        raise CheckpointError(unfinished(path) or f"{missing}; give the folder of a run of dlkd train or distill")
    return path / STUDENT_FILE


def _read_description(path: Path, num_classes: int | None, channels: int) -> _Description | None:
    """The JSON file beside ``path``, checked against the data; nothing where there is none of ours."""
    file = path.with_suffix(".json")
    if path.suffix != ".safetensors" or not path.is_file() or not file.is_file():
        return None
    try:
        if (size := file.stat().st_size) > DESCRIPTION_BYTES:
            raise ValueError(f"its {size} bytes are too many")
        values = json.loads(file.read_bytes())
        if not isinstance(values, dict) or not {"format", "model"} <= values.keys():
            return None  # A stranger's file that happens to lie here.
        if values["format"] != 1:
            raise ValueError(f"expected format 1, but got {values['format']!r}; update dlkd")
        found = _Description(
            str(values["model"]),
            int(values["num_classes"]),
            int(values["channels"]),
            InputFormat.from_dict(values["input"]),
            tuple(map(str, values.get("class_names", ()))) or None,
            dict(values["card"]),
        )
        # Every class has weights of its own: no other number could be true, and its model might not fit into memory.
        if not 1 <= found.num_classes <= path.stat().st_size:
            raise ValueError(f"expected a number of classes, but found {found.num_classes}")
        if found.class_names is not None and len(found.class_names) != found.num_classes:
            raise ValueError(f"expected {found.num_classes} class names, but found {len(found.class_names)}")
        _check_card(found.card)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{file} is damaged: {type(error).__name__}: {first_line(error)}") from error
    if num_classes is not None and found.num_classes != num_classes:
        raise CheckpointError(
            f"expected {num_classes} classes, but the weights have {found.num_classes}: {path}",
            classes=found.num_classes,
        )
    if found.channels != channels:
        raise CheckpointError(f"expected {channels} channels, but the weights are for {found.channels}: {path}")
    return found


def _check_card(card: Mapping[str, object]) -> None:
    """Refuse a card whose ``trained_on`` and ``image_size``, which others look at, are of another kind.

    Raises:
        ValueError: they are.
    """
    about, side = card.get("trained_on"), card.get("image_size")
    if about is not None and not isinstance(about, dict):
        raise ValueError(f"expected trained_on to be a group of values, but found {about!r:.40}")
    for name in ("data", "images", "labels"):
        if not isinstance(value := (about or {}).get(name), str | None):
            raise ValueError(f"expected trained_on.{name} to be a text, but found {value!r:.40}")
    if side is not None and (type(side) is not int or not 1 <= side <= MAX_SIDE):
        raise ValueError(f"expected an image_size of 1 to {MAX_SIDE} pixels, but found {side!r:.40}")


def _agreed_name(stated: str | None, saved: str, path: Path, prefix: str) -> str:
    if stated is None:
        # To build from a factory is to run code, and what a weights file says must never do that.
        if resolve_name(saved).source == "factory":
            raise CheckpointError(
                f"{path} was saved with the factory {saved!r}, which would be imported and run; "
                f"if you trust it, give it as {prefix}name {saved}"
            )
        return saved
    if stated != saved and resolve_name(stated) != resolve_name(saved):
        raise ValueError(f"expected the model {saved!r}, with which {path} was saved, but got {stated!r}")
    return stated


def load_initial(
    name: str,
    num_classes: int,
    *,
    channels: int = 3,
    weights: Path | None = None,
    pretrained: bool = False,
    prefix: str = "",
) -> tuple[nn.Module, int | None]:
    """A model to be trained: random weights, those of a file or run folder, or published ones.

    A head that is for another number of classes is left out: the model keeps a random one for ``num_classes``. See
    :func:`load_model`.

    Returns:
        The model, and the number of classes of the head that was left out; None where none was.

    Raises:
        CheckpointError: weights that are missing, damaged, or for another model.
        ValueError: an unknown name.
    """
    _check_one_source(weights, pretrained)
    if pretrained:
        found = published(name, num_classes, channels, prefix, new_head=True)
        return found.module, found.left_out
    module = build_model(name, num_classes, channels=channels)
    if weights is None:
        return module, None
    return module, load_weights(module, _weights_file(weights), num_classes=num_classes, new_head=True)
