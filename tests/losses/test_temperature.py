"""A temperature as a pair: shapes, precision, errors, and the divergence under it against float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from dlkd import losses
from dlkd.losses import Temperatures, cross_entropy, kd_loss, kl_divergence
from dlkd.losses.temperature import temperature_pair

B, C = 4, 6
SHAPES = [(1, 1), (B, 1), (1, C), (B, C)]


def reference_kl(student, teacher, t_student, t_teacher):
    log_p, log_q = log_softmax(teacher / t_teacher, axis=1), log_softmax(student / t_student, axis=1)
    return (np.exp(log_p) * (log_p - log_q)).sum(1)


@pytest.mark.parametrize("student_shape", SHAPES)
@pytest.mark.parametrize("teacher_shape", SHAPES)
def test_divergence_under_any_pair(teacher_shape, student_shape):
    rng = np.random.default_rng(1)
    s, t = rng.normal(0, 3, (2, B, C))
    t_teacher, t_student = rng.uniform(0.5, 8, teacher_shape), rng.uniform(0.5, 8, student_shape)
    pair = Temperatures(torch.tensor(t_teacher), torch.tensor(t_student))
    got = kl_divergence(torch.tensor(s), torch.tensor(t), pair)
    assert got.shape == (B,)
    np.testing.assert_allclose(got.numpy(), reference_kl(s, t, t_student, t_teacher), rtol=1e-11)


def test_gradient_divides_by_the_students_temperature():
    g = torch.Generator().manual_seed(0)
    s, z = torch.randn(2, B, C, generator=g, dtype=torch.float64)
    s.requires_grad_()
    pair = Temperatures(*(0.5 + 5 * torch.rand(2, B, C, generator=g, dtype=torch.float64)))
    kl_divergence(s, z, pair).sum().backward()
    expected = ((s / pair.student).softmax(1) - (z / pair.teacher).softmax(1)) / pair.student
    torch.testing.assert_close(s.grad, expected.detach())


def test_a_float_and_a_vector_become_a_column_of_the_logits_kind():
    like = torch.zeros(B, C, dtype=torch.float64)
    for given_t in (3.0, torch.tensor(3.0), torch.full((B,), 3.0)):
        pair = temperature_pair(given_t, like)
        assert pair.teacher is pair.student
        assert pair.student.shape == ((1, 1) if isinstance(given_t, float) else (B, 1))
        assert pair.student.dtype == torch.float64
        assert (pair.student == 3).all()
    # 0.1 is formed in the kind of the loss, not rounded to fp32 on the way.
    assert temperature_pair(0.1, like).student[0].item() == 0.1
    mixed = temperature_pair(Temperatures(torch.ones(1, 1), torch.ones(B, C, dtype=torch.float16)), like)
    assert mixed.teacher.dtype == mixed.student.dtype == torch.float64
    assert mixed.teacher.shape == (1, 1) and mixed.student.shape == (B, C)


def plain_kd(s, z, t):
    """T²·KL of each sample as autograd sees it."""
    t = t.expand(B).unsqueeze(1)
    log_p, log_q = (torch.log_softmax(x / t, dim=1) for x in (z, s))
    return (t.square() * (log_p.exp() * (log_p - log_q)).sum(dim=1, keepdim=True))[:, 0]


@pytest.mark.parametrize("value", [torch.tensor(2.5), torch.tensor([0.7, 2.0, 4.0, 9.0])], ids=["one", "each"])
@pytest.mark.parametrize("taught", [False, True])
def test_the_gradient_of_a_learned_temperature(value, taught):
    """By itself and beside that of the logits, whose short cut must step back."""
    s, z = torch.randn(2, B, C, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    s.requires_grad_(taught)
    t = value.double().requires_grad_()
    wanted = [t, s] if taught else [t]
    weights = torch.linspace(0.5, 2, B, dtype=torch.float64)
    functions = {
        "kd": lambda: kd_loss(s, z, temperature=t, reduction="none"),
        "kl": lambda: t.square() * kl_divergence(s, z, t),
        "pair": lambda: t.square() * kl_divergence(s, z, Temperatures(*2 * [t.expand(B).unsqueeze(1)])),
    }
    expected = torch.autograd.grad((weights * plain_kd(s, z, t)).sum(), wanted)
    assert expected[0].abs().min() > 1e-3
    for name, function in functions.items():
        found = torch.autograd.grad((weights * function()).sum(), wanted)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("name", ["dkd", "nkd", "dist", "r2kd_value", "wsld"])
def test_other_losses_let_the_gradient_of_a_temperature_through(name):
    function, labels = getattr(losses, f"{name}_loss"), torch.arange(B)
    s, z = torch.randn(2, B, C, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    t = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: function(s, z, labels, temperature=t), (t,))
    s.requires_grad_()
    torch.autograd.grad(function(s, z, labels, temperature=t), (s, t))
    # A temperature without a gradient changes nothing.
    one, other = (torch.autograd.grad(function(s, z, labels, temperature=x), s)[0] for x in (t.detach(), 2.5))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_a_temperature_of_another_kind_keeps_its_gradient():
    t = torch.tensor(2.0, requires_grad=True)  # fp32 beside logits of fp64 and of fp16
    for dtype in (torch.float64, torch.float16):
        s, z = torch.randn(2, B, C).to(dtype)
        (found,) = torch.autograd.grad(kd_loss(s, z, temperature=t), t)
        assert found.dtype == torch.float32 and found.abs() > 0


@pytest.mark.parametrize("shape", [(), (B,), (C,), (B, C, 1), (2, 1), (B, 2), (B + 1, C)])
def test_bad_shapes_of_a_pair(shape):
    good, bad, like = torch.ones(1, 1), torch.ones(shape), torch.zeros(B, C)
    for pair in (Temperatures(good, bad), Temperatures(bad, good)):
        with pytest.raises(ValueError, match="broadcastable"):
            temperature_pair(pair, like)


@pytest.mark.parametrize("bad", [0.0, -2.0, float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_bad_values_of_a_pair(bad, where):
    values = [torch.ones(B, C), torch.ones(B, C)]
    values[where][2, 3] = bad
    with pytest.raises(ValueError, match=f"positive and finite, but got \\[{bad}\\]"):
        temperature_pair(Temperatures(*values), torch.zeros(B, C))


def test_kd_loss_refuses_a_pair():
    t = torch.full((B, 1), 2.0)
    with pytest.raises(ValueError, match="pair"):
        kd_loss(torch.zeros(B, C), torch.zeros(B, C), temperature=Temperatures(t, 2 * t))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 2**16),
    st.floats(0.5, 20),
    st.floats(0.5, 20),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.sampled_from(["plus", "minus", "both", "one"]),
)
def test_finite_value_and_gradient_for_extreme_logits(seed, t_teacher, t_student, dtype, kind):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (2, 3, 5))
    extreme = {"plus": [1e4], "minus": [-1e4], "both": [1e4, -1e4], "one": [1e4, 0.0, 0.0, 0.0]}[kind]
    chosen = rng.random(logits.shape) < 0.7
    logits[chosen] = rng.choice(extreme, chosen.sum())
    s, z = (torch.tensor(x).to(dtype) for x in logits)
    s.requires_grad_()
    pair = Temperatures(torch.full((1, 1), t_teacher), torch.full((3, 1), t_student))
    value = kl_divergence(s, z, pair)
    loss = value.mean() + kd_loss(s, z, temperature=t_student) + cross_entropy(s, torch.tensor([0, 4, 2])).mean()
    loss.backward()
    assert value.dtype == torch.float32 and value.isfinite().all() and loss.isfinite()
    assert s.grad.isfinite().all()
    # The value itself is right, too, not only finite.
    exact = reference_kl(s.detach().double().numpy(), z.double().numpy(), t_student, t_teacher)
    np.testing.assert_allclose(value.detach().numpy(), exact, rtol=1e-4, atol=1e-4 * (1 + np.abs(exact).max()))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**16), st.floats(0.5, 10), st.permutations(range(C)))
def test_order_of_classes_and_samples_is_nothing(seed, temperature, order):
    g = torch.Generator().manual_seed(seed)
    s, z = torch.randn(2, B, C, generator=g, dtype=torch.float64)
    t = torch.rand(B, generator=g, dtype=torch.float64) + temperature
    whole = kd_loss(s, z, temperature=t, reduction="none")
    torch.testing.assert_close(
        whole, kd_loss(s[:, order], z[:, order], temperature=t, reduction="none"), rtol=1e-9, atol=1e-12
    )
    alone = torch.cat(
        [kd_loss(s[i : i + 1], z[i : i + 1], temperature=t[i : i + 1], reduction="none") for i in range(B)]
    )
    torch.testing.assert_close(whole, alone, rtol=1e-12, atol=0)
