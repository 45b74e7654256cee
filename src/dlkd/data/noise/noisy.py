"""What every kind of label noise gives: the labels, where they are wrong, and who became whom."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int64]


class NoisyLabels(NamedTuple):
    """Noisy labels, where they are wrong, and the transition matrix that came out."""

    labels: Labels
    """``[N]``, as a user would be given them."""
    wrong: npt.NDArray[np.bool_]
    """``[N]``, true where the label differs from the true one."""
    transition: Labels
    """``[C, C]``: how many images of true class i (row) got label j (column). A row divided by its sum estimates
    p(given = j | true = i)."""


def compare(true: Labels, given: Labels, num_classes: int) -> NoisyLabels:
    """The given labels ``[N]`` against the true ones ``[N]``."""
    pairs = np.bincount(true * num_classes + given, minlength=num_classes**2)
    return NoisyLabels(given, given != true, pairs.reshape(num_classes, num_classes))


def check_true(labels: npt.ArrayLike, num_classes: int) -> Labels:
    """True labels as an array.

    Raises:
        ValueError: labels out of range, or fewer than two classes.
    """
    true = np.asarray(labels, np.int64)
    if num_classes < 2:
        raise ValueError(f"expected at least two classes, but got {num_classes}")
    if true.ndim != 1 or (true.size and not 0 <= true.min() <= true.max() < num_classes):
        raise ValueError(f"expected class numbers [N] between 0 and {num_classes - 1}")
    return true


def check_share(share: float) -> None:
    """Refuse a share of wrong labels outside [0, 1].

    Raises:
        ValueError: it is, or it is no number.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"expected the noise share to be in [0, 1], but got {share}")


def draws(seed: int, ids: Labels) -> npt.NDArray[np.float64]:
    """Three uniform numbers in [0, 1) for each sample, ``[N, 3]``.

    A function of (seed, number of the sample): neither the order nor the company of the samples matters.
    """
    rows = int(ids.max()) + 1 if ids.size else 0
    # Streams 1 and 2 of a seed are those of the held-out part and of the hidden labels.
    return np.random.default_rng((seed, 3)).random((rows, 3))[ids]


def numbers_of(true: Labels, ids: npt.ArrayLike | None) -> Labels:
    """The numbers of the samples ``[N]``; by default 0 … N − 1.

    Raises:
        ValueError: another length, or a number below 0.
    """
    numbers = np.arange(true.size) if ids is None else np.asarray(ids, np.int64)
    if numbers.shape != true.shape or (numbers.size and numbers.min() < 0):
        raise ValueError(f"expected one number of at least 0 for each of {true.size} labels, but got {numbers.shape}")
    return numbers
