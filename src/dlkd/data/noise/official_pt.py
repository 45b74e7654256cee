"""Whole numbers out of a ``.pt`` file like those of CIFAR-N, without running what the file says.

``torch.load(weights_only=True)`` refuses numpy's arrays, and numpy's functions that rebuild them were not made for the
files of strangers. So stand-ins are allowed under their names: they keep what they are told, and an array is made here,
of plain bytes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dlkd.errors import UserError

NEEDS = (2, 6)
"""The first torch in which an object is allowed under another's name."""
INTEGERS = {f"{kind}{width}" for kind in "iu" for width in (1, 2, 4, 8)}


class _DType:
    """Stands for ``numpy.dtype``: a letter and a width, as in ``i8``, and the order of the bytes."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Array:
    """Stands for ``numpy.ndarray``."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def whole_numbers(self) -> npt.NDArray[Any]:
        """The array itself.

        Raises:
            ValueError: not one of whole numbers of known width.
        """
        _, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, _DType) or dtype.name not in INTEGERS or fortran or not isinstance(raw, bytes):
            raise ValueError("it holds an array of something else than whole numbers")
        order = dtype.order if dtype.order in ("<", ">") else "="
        return np.frombuffer(raw, np.dtype(f"{order}{dtype.name}")).reshape(shape)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


_ALLOWED = [
    (_DType, "numpy.dtype"),
    (_Array, "numpy.ndarray"),
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),  # as numpy 2 calls it
]


def read_pt(path: Path) -> Any:
    """What the file holds: a list, an array or a tensor, or a dictionary of such.

    Raises:
        UserError: this torch is too old.
        ValueError: other things than whole numbers and texts.
        Exception: whatever torch says of a file that is damaged.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < NEEDS:
        needed = ".".join(map(str, NEEDS))
        raise UserError(f"reading {path} needs torch {needed} or later; or save its arrays with numpy.savez")
    with warnings.catch_warnings(), torch.serialization.safe_globals(_ALLOWED):  # type: ignore[arg-type]
        warnings.simplefilter("ignore")  # about how the file was pickled, on the way to an error
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
        except UnpicklingError as error:  # torch's own words are how to load it all the same
            raise ValueError("expected whole numbers or texts as torch.save writes them, and nothing else") from error
    return {name: _plain(value) for name, value in found.items()} if isinstance(found, dict) else _plain(found)


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.whole_numbers()
    return value.numpy() if isinstance(value, torch.Tensor) else value
