"""Load weights from files that a stranger may have made: nothing in them is ever executed."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from dlkd.errors import first_few, first_line, printable
from dlkd.models.layouts import foreign_layout
from dlkd.regular import unpacked_bytes

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which public checkpoints keep the weights."""


class CheckpointError(ValueError):
    """A weights file is missing, unreadable, unsafe, or does not fit the model.

    Args:
        message: one line.
        classes: that the weights are for, where it is their number that does not fit.
    """

    def __init__(self, message: str, *, classes: int | None = None) -> None:
        super().__init__(message)
        self.classes = classes


def load_weights(
    model: nn.Module, path: str | Path, *, num_classes: int | None = None, new_head: bool = False
) -> int | None:
    """Load all weights of ``model`` from a ``.safetensors`` or a ``torch.save`` file.

    ``torch.save`` files are read with ``weights_only=True``. Common wrappers (``state_dict``,
    ``model``, …) and the prefix ``module.`` are taken off. The model is unchanged on any error.

    The keys must be the model's own. Ours have those of RepDistiller and mdistiller, whose files load
    as they are; so do the ResNets of pytorch-cifar-models, but not its VGG, MobileNetV2, ShuffleNetV2
    and RepVGG, which are other networks.

    Args:
        num_classes: of ``model``; a head with another number is then named as such.
        new_head: leave a head with another number of classes as it is in ``model``, to be trained anew.

    Returns:
        The number of classes of the head that was left out; None where every weight was loaded.

    Raises:
        CheckpointError: in one line, what was expected, what was found, which keys differ.
    """
    path = Path(path)
    weights = read_state_dict(path)
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    misfits = {
        key: (weights[key].shape, expected[key].shape)
        for key in sorted(expected.keys() & weights.keys())
        if weights[key].shape != expected[key].shape
    }
    shapes = [f"{key} is {list(found)}, expected {list(wanted)}" for key, (found, wanted) in misfits.items()]
    problems = [
        f"{label} {first_few([printable(item) for item in items])}"
        for label, items in (("missing:", missing), ("unexpected:", unexpected), ("shapes:", shapes))
        if items
    ]
    classes = _other_classes(misfits, num_classes) if misfits else None
    if new_head and classes is not None and not missing and not unexpected:
        _load(model, {**weights, **{key: expected[key] for key in misfits}}, path)
        return classes
    if problems:
        if classes is not None:
            problems.insert(0, f"expected {num_classes} classes, but the weights have {classes}")
        if (layout := foreign_layout(weights.keys(), expected.keys())) is not None:
            problems.insert(0, layout)
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}", classes=classes)
    _load(model, weights, path)
    return None


def _load(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load what has the right names and shapes, if there are plain numbers behind them."""
    for key, value in weights.items():
        if value.layout is not torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            kind = "meta" if value.is_meta else str(value.layout if value.layout is not torch.strided else value.dtype)
            raise CheckpointError(
                f"expected {path} to hold dense tensors of real numbers, but {printable(key)} is "
                f"{kind.removeprefix('torch.')}; save its state_dict() again, best as .safetensors"
            )
    try:
        model.load_state_dict(weights)
    except Exception as error:
        raise CheckpointError(f"{path} could not be loaded: {first_line(error)}") from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors; see :func:`load_weights`."""
    if not path.is_file():
        raise CheckpointError(f"expected a weights file at {path}, but there is none")
    try:
        _check_unpacked(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was pickled, on the way to an error
            content: Any = (
                safetensors.torch.load_file(path)
                if _is_safetensors(path)
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a plain file of weights and was not opened further, since it could run code; "
            "save its state_dict() again, best as .safetensors"
        ) from error
    # The unpickler raises whatever the bytes lead it to: KeyError, IndexError, struct.error, …
    except Exception as error:
        raise CheckpointError(f"{path} is damaged or no weights file: {first_line(error)}") from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise CheckpointError(f"expected {path} to hold named tensors, but found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(
                f"expected {path} to hold named tensors only, but {printable(str(key))} is {type(value).__name__}"
            )
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to far more than its size: torch keeps weights as they are, and does not pack."""
    size = path.stat().st_size
    if (unpacked := unpacked_bytes(path)) > 2 * size:
        raise ValueError(f"its {size} bytes would unpack to {unpacked}")


def _is_safetensors(path: Path) -> bool:
    """By name, or by content: eight bytes of length, then a JSON object."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _other_classes(misfits: Mapping[str, tuple[torch.Size, torch.Size]], num_classes: int | None) -> int | None:
    """The classes of the weights where every misfit is the head's first side, else nothing."""
    counts = {
        found[0] if 1 <= len(wanted) <= 2 and wanted[0] == num_classes and found[1:] == wanted[1:] and found else None
        for found, wanted in misfits.values()
    }
    return counts.pop() if len(counts) == 1 else None
