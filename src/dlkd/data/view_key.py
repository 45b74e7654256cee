"""The name of an augmented view: (seed, sample index, view number), hashed to 32 bits.

Everything random about a view is drawn from its key, so a view is the same pixels for any worker
count, batch size, rank count and order, and can be replayed from storage.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Stream(IntEnum):
    """Independent draws of one view. The numbers are part of stored views: never change one."""

    ROW = 0
    COLUMN = 1
    FLIP = 2
    TRANSFORM = 3
    """Seed of the generators that a per-image transform draws from."""
    MIX = 4
    BOX_ROW = 5
    BOX_COLUMN = 6
    ERASE = 7
    """Is something erased at all?"""
    ERASE_AREA = 8
    ERASE_RATIO = 9
    ERASE_ROW = 10
    ERASE_COLUMN = 11
    ORDER = 100
    """Order of the samples of an epoch, and with it the pairs that mix."""
    STEP = 101
    """Seed of everything else that is random in a training step."""
    STRONG = 102
    """Seed of the strong one of two views."""


def view_key(seed: int, index: npt.ArrayLike, view: npt.ArrayLike, stream: int = 0) -> npt.NDArray[np.uint32]:
    """Hash (seed, index, view, stream) to 32 bits, for one view or an array of them.

    32 bits because torch's CPU generator uses only the low 32 bits of a seed: fields packed into 64
    would be dropped in silence. ``stream`` separates independent draws of one view (crop, flip, …).

    Args:
        seed: of the view family, in [0, 2⁶³).
        index: sample number(s), not negative.
        view: view number(s), not negative; broadcast against ``index``.
        stream: which independent draw.

    Returns:
        ``uint32``, of the broadcast shape.

    Source of the mixing step: SplitMix64 (Steele, Lea, Flood 2014).
    """
    with np.errstate(over="ignore"):
        h = _mix(np.asarray(seed, np.int64).astype(np.uint64) + _GOLDEN)
        for field in (index, view, stream):
            values = np.asarray(field, np.int64)
            if np.any(values < 0):
                raise ValueError(f"expected index, view and stream of at least 0, but got {values.min()}")
            h = _mix(h ^ (values.astype(np.uint64) + _GOLDEN))
        return (h >> np.uint64(32)).astype(np.uint32)


def draw_integer(
    below: int, seed: int, index: npt.ArrayLike, view: npt.ArrayLike, stream: int
) -> npt.NDArray[np.int64]:
    """A whole number in [0, below) of each view; multiply-shift has not the bias of a remainder."""
    key = view_key(seed, index, view, stream).astype(np.uint64)
    return ((key * np.uint64(below)) >> np.uint64(32)).astype(np.int64)


def draw_uniform(seed: int, index: npt.ArrayLike, view: npt.ArrayLike, stream: int) -> npt.NDArray[np.float64]:
    """A number in the open interval (0, 1) of each view, at the centre of one of 2³² cells."""
    return (view_key(seed, index, view, stream).astype(np.float64) + 0.5) / 2.0**32


def epoch_order(seed: int, index: npt.NDArray[np.int64], view: int) -> npt.NDArray[np.int64]:
    """A seeded permutation of positions [N]: samples sorted by the hash of their numbers.

    It depends on our own hash alone, not on a library's shuffle that may change with its version.
    """
    return np.argsort(view_key(seed, index, view, Stream.ORDER), kind="stable").astype(np.int64)


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return np.asarray(x ^ (x >> np.uint64(31)))
