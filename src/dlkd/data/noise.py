"""Synthetic label noise with an exact, seeded share of wrong labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class NoisyLabels(NamedTuple):
    """Noisy labels and where they are wrong."""

    labels: npt.NDArray[np.int64]
    """``[N]``, as a user would be given them."""
    wrong: npt.NDArray[np.bool_]
    """``[N]``, true where the label differs from the true one."""


def symmetric_noise(labels: npt.ArrayLike, num_classes: int, share: float, seed: int) -> NoisyLabels:
    """Replace round(share·n) labels of each class by another class, uniformly, never by the true one.

    Args:
        labels: true class numbers ``[N]`` in ``[0, num_classes)``.
        num_classes: at least 2.
        share: wrong labels in each class, in [0, 1].
        seed: of the choice.

    Raises:
        ValueError: labels out of range, fewer than two classes, or a share outside [0, 1].
    """
    true = np.asarray(labels, np.int64)
    if num_classes < 2:
        raise ValueError(f"expected at least two classes, but got {num_classes}")
    if not 0 <= share <= 1:
        raise ValueError(f"expected the noise share to be in [0, 1], but got {share}")
    if true.ndim != 1 or (true.size and not 0 <= true.min() <= true.max() < num_classes):
        raise ValueError(f"expected class numbers [N] between 0 and {num_classes - 1}")
    random = np.random.default_rng(seed)
    noisy = true.copy()
    for c in range(num_classes):
        members = np.flatnonzero(true == c)
        flipped = random.choice(members, size=round(share * members.size), replace=False)
        noisy[flipped] = (c + random.integers(1, num_classes, size=flipped.size)) % num_classes
    return NoisyLabels(noisy, noisy != true)
