"""Load weights from files that a stranger may have made: nothing in them is ever executed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which public checkpoints keep the weights."""


class CheckpointError(ValueError):
    """A weights file is missing, unreadable, unsafe, or does not fit the model."""


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load all weights of ``model`` from a ``.safetensors`` or a ``torch.save`` file.

    ``torch.save`` files are read with ``weights_only=True``. Common wrappers (``state_dict``,
    ``model``, …) and the prefix ``module.`` are taken off. The model is unchanged on any error.

    Raises:
        CheckpointError: in one line, what was expected, what was found, which keys differ.
    """
    path = Path(path)
    weights = read_state_dict(path)
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted(weights.keys() - expected.keys())
    shapes = [
        f"{key} is {list(weights[key].shape)}, expected {list(expected[key].shape)}"
        for key in sorted(expected.keys() & weights.keys())
        if weights[key].shape != expected[key].shape
    ]
    problems = [
        f"{label} {_some(items)}"
        for label, items in (("missing:", missing), ("unexpected:", unexpected), ("shapes:", shapes))
        if items
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict(weights)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file of named tensors; see :func:`load_weights`."""
    if not path.is_file():
        raise CheckpointError(f"expected a weights file at {path}, but there is none")
    try:
        content: Any = (
            safetensors.torch.load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not a plain file of weights and was not opened further, since it could run code; "
            "save its state_dict() again, best as .safetensors"
        ) from error
    except (safetensors.SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no weights file: {_first_line(error)}") from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"expected {path} to hold named tensors, but found {type(content).__name__}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _some(items: list[str], limit: int = 3) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
