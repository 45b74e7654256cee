"""Named arrays in one ``.npz`` file: written whole or not at all, read without running what a stranger put there."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlkd.errors import first_line
from dlkd.files import write_atomic
from dlkd.regular import check_fits_in_memory


def write_arrays(path: Path, arrays: Mapping[str, npt.ArrayLike], *, compressed: bool = False) -> None:
    """Write ``arrays`` by their names; see :func:`dlkd.files.write_atomic`.

    Args:
        path: ending with ``.npz``.
        arrays: by name.
        compressed: takes time, and is worth it for labels, not for what a network computes.
    """
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)  # type: ignore[arg-type]
    write_atomic(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All arrays of a file by their names.

    Raises:
        ValueError: there is no such file (then from FileNotFoundError), or it is damaged, too large, one array without
            a name, or holds Python objects.
    """
    try:
        check_fits_in_memory(path)
        kept = np.load(path, allow_pickle=False)
        if not isinstance(kept, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        with kept:
            return {name: kept[name] for name in kept.files}
    except Exception as error:  # numpy, zipfile and zlib each have errors of their own
        raise ValueError(first_line(error)) from error
