"""kd_loss against an independent float64 derivation, its limits and its errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from dlkd.losses import cross_entropy, kd_loss, kl_divergence


def reference_kd(student, teacher, t):
    log_p, log_q = log_softmax(teacher / t, axis=1), log_softmax(student / t, axis=1)
    return t**2 * (np.exp(log_p) * (log_p - log_q)).sum(1)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_equals_float64_derivation(classes, temperature):
    rng = np.random.default_rng(0)
    s, t = rng.normal(0, 3, (2, 7, classes))
    got = kd_loss(torch.tensor(s), torch.tensor(t), temperature=temperature, reduction="none")
    np.testing.assert_allclose(got.numpy(), reference_kd(s, t, temperature), rtol=1e-11)
    mean = kd_loss(torch.tensor(s), torch.tensor(t), temperature=temperature)
    assert mean.item() == pytest.approx(reference_kd(s, t, temperature).mean(), rel=1e-11)


def test_two_classes_closed_form():
    # p = (1/2, 1/2), q = (3/4, 1/4): KL = ½·log(4/3)
    got = kl_divergence(torch.tensor([[3.0, 1.0]]).log(), torch.zeros(1, 2), 1.0)
    assert got.item() == pytest.approx(0.5 * np.log(4 / 3), rel=1e-6)


def test_gradient_is_scaled_difference_of_probabilities():
    torch.manual_seed(0)
    s, z = torch.randn(5, 9, dtype=torch.float64, requires_grad=True), torch.randn(5, 9, dtype=torch.float64)
    t = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    kd_loss(s, z, temperature=t).backward()
    expected = t[:, None] * (torch.softmax(s / t[:, None], 1) - torch.softmax(z / t[:, None], 1)) / 5
    torch.testing.assert_close(s.grad, expected.detach())


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**16), st.floats(0.2, 20), st.floats(-50, 50))
def test_float_and_vector_temperature_agree_and_shift_is_nothing(seed, temperature, shift):
    g = torch.Generator().manual_seed(seed)
    s, t = torch.randn(2, 4, 6, generator=g, dtype=torch.float64)
    a = kd_loss(s, t, temperature=temperature)
    assert torch.equal(a, kd_loss(s, t, temperature=torch.full((4,), temperature, dtype=torch.float64)))
    torch.testing.assert_close(a, kd_loss(s + shift, t - shift, temperature=temperature), rtol=1e-9, atol=1e-9)
    assert a >= -1e-12
    assert kd_loss(t, t, temperature=temperature) == 0


@pytest.mark.parametrize("temperature", [1.0, 6.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_finite_for_extreme_logits(temperature, dtype):
    s = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], dtype=dtype, requires_grad=True)
    z = torch.tensor([[-1e4, 1e4, 0.0], [1e4, -1e4, -1e4]], dtype=dtype)
    loss = kd_loss(s, z, temperature=temperature) + cross_entropy(s, torch.tensor([1, 0])).mean()
    loss.backward()
    assert loss.isfinite() and s.grad.isfinite().all()


def test_fp32_inside_autocast():
    s, z = torch.randn(2, 3, 5)
    plain = kd_loss(s, z, temperature=4.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kd_loss(s, z, temperature=4.0), plain)


def test_teacher_from_inference_mode_and_without_gradient():
    s = torch.randn(3, 4, requires_grad=True)
    with torch.inference_mode():
        z = torch.randn(3, 4)
    kd_loss(s, z, temperature=2.0).backward()
    teacher = torch.randn(3, 4, requires_grad=True)
    kd_loss(s, teacher, temperature=2.0).backward()
    assert s.grad is not None and teacher.grad is None


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf"), torch.ones(3), torch.ones(2, 1)])
def test_bad_temperature(bad):
    with pytest.raises(ValueError, match="expected"):
        kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=bad)


def test_bad_shapes_and_reduction():
    with pytest.raises(ValueError, match=r"same classes"):
        kd_loss(torch.zeros(2, 3), torch.zeros(2, 4), temperature=1.0)
    with pytest.raises(ValueError, match="reduction"):
        kd_loss(torch.zeros(2, 3), torch.zeros(2, 3), temperature=1.0, reduction="sum")
