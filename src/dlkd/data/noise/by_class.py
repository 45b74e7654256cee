"""Label noise that depends on the true class alone: symmetric, pair, within groups, by a matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dlkd.data.noise.noisy import Labels, NoisyLabels, check_share, check_true, compare, draws, numbers_of

SUM_TOLERANCE = 1e-4
"""How far from one a row of a transition matrix may sum to: numbers in files are rounded."""


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
    true = check_true(labels, num_classes)
    check_share(share)
    # One stream through all classes, in order: what the first runs were made with.
    random = np.random.default_rng(seed)
    noisy = true.copy()
    for c in range(num_classes):
        members = np.flatnonzero(true == c)
        flipped = random.choice(members, size=round(share * members.size), replace=False)
        noisy[flipped] = (c + random.integers(1, num_classes, size=flipped.size)) % num_classes
    return compare(true, noisy, num_classes)


def pair_noise(
    labels: npt.ArrayLike, num_classes: int, share: float, seed: int, ids: npt.ArrayLike | None = None
) -> NoisyLabels:
    """Replace round(share·n) labels of each class c by class c + 1, the last one's by class 0.

    Also called pair flip (Han et al., Co-teaching, NeurIPS 2018).

    Args:
        labels: true class numbers ``[N]`` in ``[0, num_classes)``.
        num_classes: at least 2.
        share: wrong labels in each class, in [0, 1]; those of a smaller share are among those of a larger one.
        seed: of the choice.
        ids: numbers of the samples ``[N]``, by which each draws; by default 0 … N − 1.

    Raises:
        ValueError: labels or numbers out of range, fewer than two classes, or a share outside [0, 1].
    """
    true = check_true(labels, num_classes)
    others = [np.array([(c + 1) % num_classes]) for c in range(num_classes)]
    return compare(true, _flipped(true, others, share, draws(seed, numbers_of(true, ids))), num_classes)


def superclass_noise(
    labels: npt.ArrayLike, groups: Sequence[int], share: float, seed: int, ids: npt.ArrayLike | None = None
) -> NoisyLabels:
    """Replace round(share·n) labels of each class by another class of its group, uniformly.

    Args:
        labels: true class numbers ``[N]``.
        groups: the group of each class, as many as there are classes; see ``superclasses``.
        share: as in :func:`pair_noise`.
        seed: as there.
        ids: as there.

    Raises:
        ValueError: as there, or a class that is alone in its group.
    """
    true = check_true(labels, len(groups))
    group = np.asarray(groups)
    others = [np.flatnonzero((group == group[c]) & (np.arange(group.size) != c)) for c in range(group.size)]
    if alone := [c for c, other in enumerate(others) if not other.size]:
        raise ValueError(f"expected at least two classes in each group, but class {alone[0]} is alone in its own")
    return compare(true, _flipped(true, others, share, draws(seed, numbers_of(true, ids))), len(groups))


def _flipped(true: Labels, others: Sequence[Labels], share: float, draw: npt.NDArray[np.float64]) -> Labels:
    """The first round(share·n) of each class in order of their first draw, by their second to one of ``others``."""
    check_share(share)
    noisy = true.copy()
    for c, other in enumerate(others):
        members = np.flatnonzero(true == c)
        chosen = members[np.argsort(draw[members, 0], kind="stable")[: round(share * members.size)]]
        noisy[chosen] = other[(draw[chosen, 1] * other.size).astype(np.int64)]
    return noisy


def check_matrix(matrix: npt.ArrayLike, num_classes: int | None = None) -> npt.NDArray[np.float64]:
    """A transition matrix ``[C, C]`` in fp64, its rows scaled to sum to one exactly.

    Args:
        matrix: row i holds p(given = j | true = i).
        num_classes: C; by default whatever the matrix has.

    Raises:
        ValueError: another shape, entries outside [0, 1], or a row that does not sum to one (within 1e-4).
    """
    rows = np.asarray(matrix, np.float64)
    size = rows.shape[0] if num_classes is None and rows.ndim else num_classes
    if rows.shape != (size, size):
        found = " × ".join(map(str, rows.shape)) or "one number"
        raise ValueError(f"expected the matrix to be {size} × {size}, a row for each class, but got {found}")
    if (bad := np.argwhere(~((rows >= 0) & (rows <= 1)))).size:
        i, j = bad[0]
        raise ValueError(f"expected entries of the matrix in [0, 1], but got {rows[i, j]:g} in row {i}, column {j}")
    sums = rows.sum(axis=1)
    if (off := np.flatnonzero(np.abs(sums - 1) > SUM_TOLERANCE)).size:
        raise ValueError(f"expected rows of the matrix to sum to one, but row {off[0]} sums to {sums[off[0]]:.6g}")
    scaled: npt.NDArray[np.float64] = rows / sums[:, None]
    return scaled


def matrix_noise(
    labels: npt.ArrayLike, matrix: npt.ArrayLike, seed: int, ids: npt.ArrayLike | None = None
) -> NoisyLabels:
    """Give the n images of class i label j exactly n·matrix[i, j] times, up to rounding.

    Counts are rounded by largest remainder: each differs from n·matrix[i, j] by less than one, and none arises where
    the matrix has a zero. Which image gets which label is drawn.

    Args:
        labels: true class numbers ``[N]`` in ``[0, C)``.
        matrix: ``[C, C]``, row i holding p(given = j | true = i).
        seed: of the choice.
        ids: numbers of the samples ``[N]``, by which each draws; by default 0 … N − 1.

    Raises:
        ValueError: labels or numbers out of range, or what :func:`check_matrix` refuses.
    """
    rows = check_matrix(matrix)
    true = check_true(labels, len(rows))
    draw = draws(seed, numbers_of(true, ids))[:, 0]
    noisy = true.copy()
    for c, row in enumerate(rows):
        members = np.flatnonzero(true == c)
        in_order = members[np.argsort(draw[members], kind="stable")]
        noisy[in_order] = np.repeat(np.arange(len(rows)), _apportioned(members.size, row))
    return compare(true, noisy, len(rows))


def _apportioned(count: int, shares: npt.NDArray[np.float64]) -> Labels:
    """Whole numbers that sum to ``count``, by largest remainder; of equal ones the lower class is first."""
    exact = np.round(count * shares, 9)  # 0.3·10 is meant to be 3
    whole = np.floor(exact).astype(np.int64)
    last = np.argsort(whole - exact, kind="stable")[: count - int(whole.sum())]
    whole[last] += 1
    return whole
