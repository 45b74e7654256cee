"""Noise by class: exact counts, seeds that mean the same whatever the order, the matrix that came out."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import matrix_noise, pair_noise, superclass_noise, symmetric_noise
from dlkd.data.noise import check_matrix, superclasses
from dlkd.data.noise.superclass import CIFAR100

# ``coarse_labels`` of the first image of each fine class in the files of CIFAR-100.
COARSE = [
    *(4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11, 6, 11, 5, 10, 7),
    *(6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5, 5, 19, 8, 8, 15, 13, 14, 17, 18, 10),
    *(16, 4, 17, 4, 2, 0, 17, 4, 18, 17, 10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16),
    *(12, 9, 13, 15, 13, 16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13),
]
FINE = sorted(name for names in CIFAR100.values() for name in names.split())  # as CIFAR-100 numbers them
GROUPS = [0, 1, 0, 2, 1, 2, 0]
KINDS = {
    "pair": lambda true, share, seed, ids: pair_noise(true, 7, share, seed, ids),
    "superclass": lambda true, share, seed, ids: superclass_noise(true, GROUPS, share, seed, ids),
    "matrix": lambda true, share, seed, ids: matrix_noise(
        true, (1 - share) * np.eye(7) + share * np.roll(np.eye(7), 2, axis=1), seed, ids
    ),
}
seeds = st.integers(0, 2**40)


def labels_of(seed, classes, n=200):
    return np.random.default_rng((seed, 9)).integers(0, classes, n)


def check(noisy, true, classes):
    """Mask and matrix are what a recount says."""
    assert np.array_equal(noisy.wrong, noisy.labels != true)
    recount = np.zeros((classes, classes), int)
    np.add.at(recount, (true, noisy.labels), 1)
    assert np.array_equal(noisy.transition, recount)


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(2, 12), st.floats(0, 1))
def test_share_per_class_is_exact(seed, classes, share):
    true = labels_of(seed, classes)
    noisy = symmetric_noise(true, classes, share, seed)
    check(noisy, true, classes)
    for c in range(classes):
        assert noisy.wrong[true == c].sum() == round(share * (true == c).sum())
    assert noisy.labels.min() >= 0 and noisy.labels.max() < classes
    assert np.array_equal(noisy.labels, symmetric_noise(true, classes, share, seed).labels)


@pytest.mark.parametrize(
    ("seed", "classes", "n", "share", "digest"),
    [
        (0, 10, 1797, 0.4, "d78b8b08a5e50445"),
        (7, 100, 5000, 0.2, "5dc906a8dab75942"),
        (3, 3, 50, 0.55, "ad593a21d25936e2"),
        (2**40, 2, 11, 1.0, "ef749622d1fbbff3"),
    ],
)
def test_symmetric_labels_are_those_of_the_first_runs(seed, classes, n, share, digest):
    found = symmetric_noise(np.arange(n) * 7 % classes, classes, share, seed).labels
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest()[:16] == digest


def test_wrong_labels_are_uniform_over_the_others():
    counts = np.bincount(symmetric_noise(np.zeros(9000, int), 4, 1.0, 0).labels, minlength=4)
    assert counts[0] == 0 and abs(counts[1:] - 3000).max() < 200
    counts = np.bincount(superclass_noise(np.full(9000, 2), [0, 0, 0, 1, 1, 0], 1.0, 0).labels, minlength=6)
    assert counts[[2, 3, 4]].sum() == 0 and abs(counts[[0, 1, 5]] - 3000).max() < 200


@settings(deadline=None, max_examples=40)
@given(seeds, st.floats(0, 1), st.sampled_from(["pair", "superclass"]))
def test_pair_and_superclass_are_exact_and_keep_to_their_classes(seed, share, kind):
    true = labels_of(seed, 7)
    noisy = KINDS[kind](true, share, seed, None)
    check(noisy, true, 7)
    for c in range(7):
        assert noisy.wrong[true == c].sum() == round(share * (true == c).sum())
    was, became = true[noisy.wrong], noisy.labels[noisy.wrong]
    if kind == "pair":
        assert np.array_equal(became, (was + 1) % 7)
    else:
        assert np.array_equal(np.take(GROUPS, was), np.take(GROUPS, became))


@settings(deadline=None, max_examples=30)
@given(seeds, st.floats(0, 1), st.sampled_from(list(KINDS)))
def test_a_seed_means_the_same_in_any_order(seed, share, kind):
    true = labels_of(seed, 7)
    ids = np.random.default_rng(seed).permutation(500)[:200]
    noisy, order = KINDS[kind](true, share, seed, ids).labels, np.random.default_rng((seed, 1)).permutation(200)
    assert np.array_equal(KINDS[kind](true[order], share, seed, ids[order]).labels, noisy[order])
    # Other classes do not matter either.
    few = true < 3
    assert np.array_equal(KINDS[kind](true[few], share, seed, ids[few]).labels, noisy[few])
    if 0.1 < share < 0.9:
        other = KINDS[kind](true, share, seed + 1, ids).labels
        assert not np.array_equal(other, noisy)


@pytest.mark.parametrize("kind", ["pair", "superclass"])
def test_wrong_labels_of_a_smaller_share_are_among_those_of_a_larger_one(kind):
    true = labels_of(0, 7, 2000)
    few, many = (KINDS[kind](true, share, 0, None) for share in (0.2, 0.5))
    assert not (few.wrong & ~many.wrong).any() and np.array_equal(few.labels[few.wrong], many.labels[few.wrong])


def test_superclasses_are_those_of_the_files():
    assert superclasses(FINE) == COARSE and len(CIFAR100) == 20
    assert np.bincount(COARSE).tolist() == [5] * 20
    order = np.random.default_rng(0).permutation(100)
    assert superclasses([FINE[k] for k in order]) == [COARSE[k] for k in order]
    for names in (FINE[:99], [*FINE[:99], "unicorn"], list("0123456789")):
        with pytest.raises(ValueError, match=f"100 classes of CIFAR-100.* {len(names)} classes"):
            superclasses(names)


@st.composite
def matrices(draw):
    classes = draw(st.integers(2, 6))
    row = st.lists(st.integers(0, 9), min_size=classes, max_size=classes).filter(any)
    rows = np.array(draw(st.lists(row, min_size=classes, max_size=classes)), float)
    return rows / rows.sum(axis=1, keepdims=True)


@settings(deadline=None, max_examples=80)
@given(matrices(), seeds, st.integers(0, 300))
def test_the_matrix_comes_out_to_within_one_image(matrix, seed, n):
    classes = len(matrix)
    true = labels_of(seed, classes, n)
    noisy = matrix_noise(true, matrix, seed)
    check(noisy, true, classes)
    wanted = np.bincount(true, minlength=classes)[:, None] * matrix
    assert np.abs(noisy.transition - wanted).max() < 1
    assert (noisy.transition[matrix == 0] == 0).all()


@settings(deadline=None, max_examples=30)
@given(seeds, st.integers(2, 9), st.floats(0, 1))
def test_the_matrix_of_pair_noise_is_pair_noise(seed, classes, share):
    true = labels_of(seed, classes)
    pair = (1 - share) * np.eye(classes) + share * np.roll(np.eye(classes), 1, axis=1)
    found, wanted = matrix_noise(true, pair, seed).transition, pair_noise(true, classes, share, seed).transition
    # Half an image is rounded to the even number there and to the lower class here.
    half = np.abs(share * np.bincount(true, minlength=classes) % 1 - 0.5) < 1e-6
    assert np.array_equal(found[~half], wanted[~half]) and np.abs(found - wanted).max() <= 1


def test_who_gets_which_label_of_a_matrix_is_drawn():
    noisy = matrix_noise(np.zeros(4000, int), [[0.5, 0.5], [0, 1]], 0)
    halves = [noisy.wrong[:2000].sum(), noisy.wrong[2000:].sum()]
    assert sum(halves) == 2000 and abs(halves[0] - 1000) < 100


def test_rounded_rows_are_scaled_to_one():
    rows = check_matrix([[0.66667, 0.33334, 0], [0, 1, 0], [0.3333, 0.3333, 0.3334]], 3)
    assert np.abs(rows.sum(axis=1) - 1).max() < 1e-15


@pytest.mark.parametrize(
    ("matrix", "classes", "words"),
    [
        ([[1, 0], [0.5, 0.4]], 2, "rows of the matrix to sum to one, but row 1 sums to 0.9"),
        ([[1.1, -0.1], [0, 1]], 2, r"in \[0, 1\], but got 1.1 in row 0, column 0"),
        ([[1, 0], [-0.1, 1.1]], 2, "got -0.1 in row 1, column 0"),
        ([[1, 0], [float("nan"), 1]], 2, "got nan in row 1"),
        ([[1, 0, 0], [0, 1, 0]], 2, "2 × 2, a row for each class, but got 2 × 3"),
        (np.eye(3), 2, "2 × 2, .* got 3 × 3"),
        (0.5, None, "got one number"),
        (np.zeros((0, 0)), 2, "got 0 × 0"),
    ],
)
def test_matrices_that_are_none(matrix, classes, words):
    with pytest.raises(ValueError, match=words):
        check_matrix(matrix, classes)


@pytest.mark.parametrize(
    ("labels", "classes", "share"),
    [
        ([0, 3], 3, 0.1),
        ([0, -1], 3, 0.1),
        ([0], 1, 0.1),
        ([0, 1], 2, 1.5),
        ([0, 1], 2, -0.1),
        ([0, 1], 2, float("nan")),
    ],
)
def test_errors(labels, classes, share):
    for make in (symmetric_noise, pair_noise):
        with pytest.raises(ValueError, match="expected"):
            make(labels, classes, share, 0)


def test_errors_of_groups_and_numbers():
    with pytest.raises(ValueError, match="class 2 is alone"):
        superclass_noise([0, 1], [0, 0, 1], 0.5, 0)
    for ids in ([0], [0, -1]):
        with pytest.raises(ValueError, match="one number of at least 0 for each of 2 labels"):
            pair_noise([0, 1], 2, 0.5, 0, ids)
