"""DifficultyLevel: exact mid-ranks within the stated bound, ties, invariances, checkpoints."""

import sys
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd import DifficultyLevel
from dlkd.difficulty.level import batch_mid_rank


def mid_rank(reference, values):
    reference = np.asarray(reference)
    return np.array([((reference < v).sum() + 0.5 * (reference == v).sum()) / reference.size for v in values])


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**16), st.sampled_from([1, 2, 7, 100, 1025, 5000]), st.booleans())
def test_rank_is_the_mid_rank(seed, n, tied):
    rng = np.random.default_rng(seed)
    reference = (rng.exponential(0.1, n) ** 2).clip(max=1.4).astype(np.float32)
    if tied:
        reference = np.round(reference, 2)
    level = DifficultyLevel()
    level.calibrate(torch.tensor(reference))
    got = level(torch.tensor(reference)).numpy()
    np.testing.assert_allclose(got, mid_rank(reference, reference), atol=1 / 1024 + 1 / n)


def test_outside_the_reference_and_all_equal():
    level = DifficultyLevel()
    level.calibrate(torch.linspace(0.2, 0.4, 500))
    assert level(torch.tensor([0.0, 0.1, 0.5, 1.4])).tolist() == [0, 0, 1, 1]
    level.calibrate(torch.full((50,), 0.3))
    assert level(torch.tensor([0.3])).item() == 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16))
def test_monotone_and_uniform_on_its_reference(seed):
    g = torch.Generator().manual_seed(seed)
    reference = torch.rand(4000, generator=g) ** 3
    level = DifficultyLevel()
    level.calibrate(reference)
    got = level(reference.sort().values)
    assert (got.diff() >= 0).all()
    assert abs(got.mean().item() - 0.5) < 2e-3 and abs(got.std().item() - 12**-0.5) < 2e-3


def test_reference_travels_in_the_checkpoint_whatever_its_size():
    a, b = DifficultyLevel(), DifficultyLevel()
    a.calibrate(torch.rand(77))
    b.calibrate(torch.rand(1234))
    b.load_state_dict(a.state_dict())
    d = torch.rand(20)
    assert torch.equal(a(d), b(d)) and int(b.count) == 77


def test_absolute_and_batch():
    torch.testing.assert_close(
        DifficultyLevel("absolute")(torch.tensor([0.0, 0.5**0.5, 2**0.5])), torch.tensor([0.0, 0.5, 1.0])
    )
    d = [0.3, 0.1, 0.3, 0.9]
    np.testing.assert_allclose(DifficultyLevel("batch")(torch.tensor(d)).numpy(), mid_rank(d, d))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**16), st.sampled_from([1, 2, 3, 7, 100, 1000]), st.booleans(), st.booleans())
def test_batch_is_its_definition_to_the_last_bit(seed, n, tied, double):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(n, generator=g, dtype=torch.float64 if double else torch.float32)
    if tied:
        values = (4 * values).round() / 4  # with zeros of both signs
    less = (values[:, None] > values).sum(dim=1)
    equal = (values[:, None] == values).sum(dim=1)
    expected = (less + 0.5 * equal) / n
    found = batch_mid_rank(values)
    assert torch.equal(found, expected) and found.dtype == expected.dtype == torch.float32
    assert torch.equal(batch_mid_rank(torch.stack([values, values], dim=1)[:, 0]), expected)


def test_batch_of_a_whole_data_set():
    """Pair by pair, the 50,000 images of CIFAR would take 2.5 GB for each comparison."""
    resource = pytest.importorskip("resource")
    n, g = 50_000, torch.Generator().manual_seed(0)
    order = torch.randperm(n, generator=g)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    levels = DifficultyLevel("batch")((order // 2).float())  # in pairs of equal ones
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert torch.equal(levels, (2 * (order // 2) + 1).float() / n)
    assert grown * (1 if sys.platform == "darwin" else 1024) < 500e6


def test_uncalibrated_rank_warns_once_and_ranks_in_the_batch():
    level = DifficultyLevel()
    with pytest.warns(UserWarning, match="calibrate"):
        first = level(torch.tensor([0.1, 0.2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(level(torch.tensor([0.1, 0.2])), first)
    assert first.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("bad", [torch.rand(2, 2), torch.tensor([]), torch.tensor([float("nan")])])
def test_bad_reference(bad):
    with pytest.raises(ValueError, match="expected"):
        DifficultyLevel().calibrate(bad)


def test_bad_input():
    with pytest.raises(ValueError, match="rank"):
        DifficultyLevel("ranked")
    with pytest.raises(ValueError, match=r"positions \[1\]"):
        DifficultyLevel("batch")(torch.tensor([0.1, float("inf")]))
    with pytest.raises(ValueError, match="shape"):
        DifficultyLevel("batch")(torch.rand(2, 2))
