"""Every distillation loss against an independent float64 derivation, its special cases, invariances and extremes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax

from dlkd import losses
from dlkd.losses import weights
from dlkd.losses.dkd import dkd_divergence

B, C = 6, 7


def data(seed=0, batch=B, classes=C, dtype=torch.float64):
    random = np.random.default_rng(seed)
    s, t = random.normal(0, 3, (batch, classes)), random.normal(0, 4, (batch, classes))
    y = random.integers(0, classes, batch)
    return torch.tensor(s, dtype=dtype), torch.tensor(t, dtype=dtype), torch.tensor(y)


def energy_kd(s, t, y=None, *, reduction="mean"):
    return losses.energy_kd_loss(s, t, low=-12.0, high=-9.0, reduction=reduction)


LOSSES = {
    "kd": losses.kd_loss,
    "dkd": losses.dkd_loss,
    "nkd": losses.nkd_loss,
    "mlkd": losses.mlkd_loss,
    "dist": losses.dist_loss,
    "r2kd_value": losses.r2kd_value_loss,
    "rld": losses.rld_loss,
    "lskd": losses.lskd_loss,
    "wsld": losses.wsld_loss,
    "ttm": losses.ttm_loss,
    "wttm": losses.wttm_loss,
    "normkd": losses.normkd_loss,
    "dtkd": losses.dtkd_loss,
    "ats": losses.ats_loss,
    "energy_kd": energy_kd,
    "ea_kd": losses.ea_kd_loss,
    "mse": losses.mse_loss,
}
SHIFT_MATTERS = {"mse", "energy_kd", "ats"}
"""Functions of the logits themselves, not of the predictions: ATS divides the logits of a row by two numbers."""


def kl(p, q):
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


def others(z, y):
    """Softmax over the other classes, ``[B, C - 1]``."""
    keep = np.arange(z.shape[1])[None] != y[:, None]
    return softmax(z[keep].reshape(len(z), -1), axis=1)


def expected(name, s, t, y):
    """Float64 numpy, written from the papers' formulas with the published defaults."""
    rows = np.arange(len(y))
    p, q = softmax(t, axis=1), softmax(s, axis=1)
    if name == "kd":
        return 16 * kl(softmax(t / 4, 1), softmax(s / 4, 1)).mean()
    if name == "dkd":
        a, b = softmax(t / 4, 1)[rows, y], softmax(s / 4, 1)[rows, y]
        target = a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))
        return 16 * (target + 8 * kl(others(t / 4, y), others(s / 4, y))).mean()
    if name == "nkd":
        soft = -(others(t / 3, y) * np.log(others(s / 3, y))).sum(axis=1)
        return (-p[rows, y] * np.log(q[rows, y]) + 3.5 * 9 * soft).mean()
    if name == "mlkd":
        total = 0.0
        for tau in (2, 3, 4, 5, 6):
            a, b = softmax(t / tau, 1), softmax(s / tau, 1)
            batch, classes = a @ a.T - b @ b.T, a.T @ a - b.T @ b
            total += tau**2 * kl(a, b).mean() + (batch**2).sum() / len(y) + (classes**2).sum() / s.shape[1]
        return total
    if name == "dist":
        a, b = softmax(t / 4, 1), softmax(s / 4, 1)
        row = np.mean([np.corrcoef(a[i], b[i])[0, 1] for i in range(len(y))])
        column = np.mean([np.corrcoef(a[:, c], b[:, c])[0, 1] for c in range(s.shape[1])])
        return 16 * (2 - row - column)
    if name == "r2kd_value":
        a, b = softmax(t / 4, 1), softmax(s / 4, 1)

        def cosine(axis):
            norms = np.linalg.norm(a, axis=axis) * np.linalg.norm(b, axis=axis)
            return ((a * b).sum(axis=axis) / norms).mean()

        return 2 * 16 * (2 - cosine(1) - cosine(0))
    if name == "rld":
        top, label = p.max(axis=1), q[rows, y]
        confidence = top * np.log(top / label) + (1 - top) * np.log((1 - top) / (1 - label))
        below = np.zeros(len(y))
        for i in range(len(y)):
            keep = t[i] < t[i, y[i]]
            if keep.any():
                below[i] = kl(softmax(t[i, keep] / 4)[None], softmax(s[i, keep] / 4)[None])[0]
        return (confidence + 8 * 16 * below).mean()
    if name == "lskd":
        zs, zt = ((z - z.mean(1, keepdims=True)) / (z.std(1, keepdims=True) + 1e-7) for z in (s, t))
        return 4 * kl(softmax(zt / 2, 1), softmax(zs / 2, 1)).mean()
    if name == "wsld":
        ce_s, ce_t = -np.log(q[rows, y]), -np.log(p[rows, y])
        soft = -(softmax(t / 4, 1) * log_softmax(s / 4, 1)).sum(axis=1)
        return ((1 - np.exp(-ce_s / (ce_t + 1e-7))) * 16 * soft).mean()
    if name == "ttm":
        return kl(p**0.1 / (p**0.1).sum(1, keepdims=True), q).mean()
    if name == "wttm":
        u = (p**0.2).sum(1)
        return (u * kl(p**0.2 / u[:, None], q)).mean()
    if name == "normkd":
        a, b = 2 * t.std(1, keepdims=True) + 1e-7, 2 * s.std(1, keepdims=True) + 1e-7
        return (a[:, 0] ** 2 * kl(softmax(t / a, 1), softmax(s / b, 1))).mean()
    if name == "dtkd":
        m_s, m_t = ((z - z.mean(1, keepdims=True)).max(1, keepdims=True) for z in (s, t))
        a, b = 8 * m_t / (m_s + m_t), 8 * m_s / (m_s + m_t)
        own = (a * b)[:, 0] * kl(softmax(t / a, 1), softmax(s / b, 1))
        return (3 * own + 16 * kl(softmax(t / 4, 1), softmax(s / 4, 1))).mean()
    if name == "ats":
        tau = np.full_like(t, 2.0)
        tau[rows, y] = 4.0
        return kl(softmax(t / tau, 1), q).mean()
    if name == "energy_kd":
        e = -4 * logsumexp(t / 4, axis=1)
        temp = np.where(e < -12, 6.0, np.where(e > -9, 2.0, 4.0))[:, None]
        return (temp[:, 0] ** 2 * kl(softmax(t / temp, 1), softmax(s / temp, 1))).mean()
    if name == "ea_kd":
        h_t, h_s = (-(x * np.log(x)).sum(1) for x in (softmax(t / 3, 1), softmax(s / 3, 1)))
        w = h_t * (1 + h_s / np.log(s.shape[1])) / 2
        return (w * 16 * kl(softmax(t / 4, 1), softmax(s / 4, 1))).mean()
    assert name == "mse"
    return ((s - t) ** 2).mean()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("seed", range(4))
def test_float64_derivation(name, seed):
    s, t, y = data(seed)
    assert LOSSES[name](s, t, y).item() == pytest.approx(expected(name, s.numpy(), t.numpy(), y.numpy()), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_average_to_the_mean(name):
    s, t, y = data(3)
    rows = LOSSES[name](s, t, y, reduction="none")
    assert rows.shape == (B,) and torch.equal(rows.mean(), LOSSES[name](s, t, y))


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name):
    s, t, y = data(1, batch=4, classes=5)
    s.requires_grad_()
    if name in ("wsld", "ea_kd"):
        # Their weights look at the student, without gradient: the weight is a constant of the derivative.
        weight = {"wsld": weights.wsld_weight(s, t, y), "ea_kd": weights.entropy_weight(s, t)}[name]
        plain = 16 * losses.kl_divergence(s, t, 4.0)
        ours, theirs = (torch.autograd.grad(x.mean(), s)[0] for x in (LOSSES[name](s, t, y), weight * plain))
        torch.testing.assert_close(ours, theirs)
        return
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, t, y), s, atol=1e-6, rtol=1e-4)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 2**16), st.floats(-30, 30))
def test_invariances(name, seed, shift):
    s, t, y = data(seed)
    loss, value = LOSSES[name], LOSSES[name](s, t, y)
    random = np.random.default_rng(seed)
    order, classes = torch.tensor(random.permutation(B)), torch.tensor(random.permutation(C))
    torch.testing.assert_close(loss(s[order], t[order], y[order]), value, rtol=1e-9, atol=1e-9)
    renamed = torch.argsort(classes)[y]
    torch.testing.assert_close(loss(s[:, classes], t[:, classes], renamed), value, rtol=1e-9, atol=1e-9)
    if name not in SHIFT_MATTERS:
        torch.testing.assert_close(loss(s + shift, t - shift, y), value, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", sorted(SHIFT_MATTERS))
def test_exempt_from_shift_invariance(name):
    s, t, y = data(2)
    assert abs(LOSSES[name](s, t + 20, y) - LOSSES[name](s, t, y)) > 1e-3


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [1e4, 400.0, 1e-30, 0.0])
@pytest.mark.parametrize(("batch", "classes"), [(4, 5), (1, 5), (4, 2), (1, 2)])
def test_finite_value_and_gradient(name, size, batch, classes):
    s, t, y = data(5, batch, classes, torch.float32)
    s, t = (s.sign() * size).requires_grad_(), t.sign() * size
    value = LOSSES[name](s, t, y)
    value.backward()
    assert value.isfinite() and s.grad.isfinite().all()
    for half in (torch.bfloat16, torch.float16):
        low = s.detach().to(half).requires_grad_()
        with torch.autocast("cpu", half):
            value = LOSSES[name](low, t.to(half), y)
        value.backward()
        # A constant row has a gradient of 1/ε behind a z-score: more than fp16 can hold.
        varied = (low != low[:, :1]).any(dim=1) if half == torch.float16 else torch.ones(batch, dtype=torch.bool)
        assert value.dtype == torch.float32 and value.isfinite() and low.grad[varied].isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_teacher_gets_no_gradient(name):
    s, t, y = data(1)
    t.requires_grad_()
    LOSSES[name](s.requires_grad_(), t, y).backward()
    assert t.grad is None and s.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["dkd", "nkd", "rld"])
def test_soft_labels_are_the_mean_over_their_labels(name):
    s, t, y = data(4)
    other = (y + 2) % C
    one = torch.nn.functional.one_hot
    mixed = 0.3 * one(y, C).double() + 0.7 * one(other, C).double()
    by_parts = 0.3 * LOSSES[name](s, t, y) + 0.7 * LOSSES[name](s, t, other)
    torch.testing.assert_close(LOSSES[name](s, t, mixed), by_parts, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(LOSSES[name](s, t, one(y, C).double()), LOSSES[name](s, t, y), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["wsld", "ats"])
def test_hard_labels_are_soft_labels_of_one_class(name):
    s, t, y = data(4)
    hard = torch.nn.functional.one_hot(y, C).double()
    torch.testing.assert_close(LOSSES[name](s, t, hard), LOSSES[name](s, t, y), rtol=1e-9, atol=1e-9)
    mixed = 0.5 * hard + 0.5 * hard.roll(1, 1)
    assert LOSSES[name](s, t, mixed).isfinite()


def test_dkd_with_the_teachers_own_weights_is_kd():
    s, t, y = data(6)
    beta = 1 - torch.softmax(t / 4, dim=1)[torch.arange(B), y]
    torch.testing.assert_close(losses.dkd_loss(s, t, y, alpha=1.0, beta=beta), losses.kd_loss(s, t, temperature=4.0))


def test_dkd_takes_a_temperature_for_each_sample():
    s, t, y = data(7)
    each = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dtype=torch.float64)
    whole = dkd_divergence(s, t, y, each)
    single = [dkd_divergence(s[i : i + 1], t[i : i + 1], y[i : i + 1], float(each[i]))[0] for i in range(B)]
    torch.testing.assert_close(whole, torch.stack(single))


def test_lskd_on_standardised_logits_and_normkd_on_unit_variance_are_kd():
    s, t, _ = data(8)
    zs, zt = losses.z_score(s, eps=0.0), losses.z_score(t, eps=0.0)
    torch.testing.assert_close(
        losses.lskd_loss(zs, zt, temperature=2.0), losses.kd_loss(zs, zt, temperature=2.0), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        losses.normkd_loss(zs, zt, factor=2.0), losses.kd_loss(zs, zt, temperature=2.0), rtol=1e-6, atol=0
    )


def test_exact_zeros():
    s, t, y = data(9)
    for name in ("kd", "dkd", "lskd", "normkd", "dtkd", "mse", "dist", "r2kd_value", "ea_kd"):
        assert LOSSES[name](t, t, y).item() == pytest.approx(0, abs=1e-12), name
    worst = t.argmin(dim=1)
    assert torch.equal(losses.rld_loss(s, t, worst, alpha=0.0), torch.zeros((), dtype=torch.float64))


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "mse", "wsld"])
def test_bad_shapes(name):
    s, t, y = data(1)
    with pytest.raises(ValueError, match="expected"):
        LOSSES[name](s, t[:, :-1], y)
    with pytest.raises(ValueError, match="reduction"):
        LOSSES[name](s, t, y, reduction="sum")


@pytest.mark.parametrize("name", ["dkd", "nkd", "rld", "wsld"])
def test_labels_out_of_range(name):
    s, t, _ = data(1)
    with pytest.raises(ValueError, match="labels between 0 and 6"):
        LOSSES[name](s, t, torch.full((B,), C))
