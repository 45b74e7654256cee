"""probe_distance: closed forms, range, invariances."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from dlkd import probe_distance


def test_closed_forms():
    sure = torch.tensor([[1e4, 0.0, 0.0]])
    assert probe_distance(sure, sure.roll(1, 1)).item() == pytest.approx(2**0.5)
    assert probe_distance(sure, sure).item() == 0
    # (1, 0, 0) against (1/3, 1/3, 1/3): √(4/9 + 1/9 + 1/9) = √(2/3)
    assert probe_distance(sure, torch.zeros(1, 3)).item() == pytest.approx((2 / 3) ** 0.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**16), st.floats(0.3, 8), st.floats(-20, 20))
def test_float64_derivation_range_symmetry_shift(seed, tau, shift):
    a, b = np.random.default_rng(seed).normal(0, 4, (2, 5, 7))
    expected = np.linalg.norm(softmax(a / tau, axis=1) - softmax(b / tau, axis=1), axis=1)
    a, b = torch.tensor(a), torch.tensor(b)
    d = probe_distance(a, b, temperature=tau)
    np.testing.assert_allclose(d.numpy(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(d, probe_distance(b + shift, a, temperature=tau), rtol=1e-8, atol=1e-10)
    assert ((d >= 0) & (d <= 2**0.5)).all()


def test_fp32_columns_without_gradient():
    z = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    d = probe_distance(z, torch.randn(3, 4, dtype=torch.bfloat16))
    assert d.dtype == torch.float32 and not d.requires_grad


def test_errors():
    with pytest.raises(ValueError, match="expected"):
        probe_distance(torch.zeros(2, 3), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="temperature"):
        probe_distance(torch.zeros(2, 3), torch.zeros(2, 3), temperature=0)
