"""Symmetric noise: exactly the stated share of every class, never the true label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.data import symmetric_noise


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**16), st.integers(2, 12), st.floats(0, 1))
def test_share_per_class_is_exact(seed, classes, share):
    true = np.random.default_rng(seed).integers(0, classes, 200)
    noisy = symmetric_noise(true, classes, share, seed)
    assert np.array_equal(noisy.wrong, noisy.labels != true)
    for c in range(classes):
        assert noisy.wrong[true == c].sum() == round(share * (true == c).sum())
    assert noisy.labels.min() >= 0 and noisy.labels.max() < classes
    assert np.array_equal(noisy.labels, symmetric_noise(true, classes, share, seed).labels)


def test_wrong_labels_are_uniform_over_the_others():
    counts = np.bincount(symmetric_noise(np.zeros(9000, int), 4, 1.0, 0).labels, minlength=4)
    assert counts[0] == 0 and abs(counts[1:] - 3000).max() < 200


@pytest.mark.parametrize(
    ("labels", "classes", "share"),
    [([0, 3], 3, 0.1), ([0, -1], 3, 0.1), ([0], 1, 0.1), ([0, 1], 2, 1.5), ([0, 1], 2, -0.1)],
)
def test_errors(labels, classes, share):
    with pytest.raises(ValueError, match="expected"):
        symmetric_noise(labels, classes, share, 0)
