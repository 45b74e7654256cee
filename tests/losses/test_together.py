"""Gradients by hand against autograd through the definition, which takes over for the second derivative."""

import pytest
import torch

from dlkd import losses
from dlkd.losses import Temperatures

B, C = 5, 6
HARD = torch.tensor([0, 5, 2, 2, 1])
SOFT = 0.3 * torch.nn.functional.one_hot(HARD, C).double() + 0.7 * torch.nn.functional.one_hot((HARD + 1) % C, C)
PAIR = Temperatures(torch.linspace(1, 9, B * C).view(B, C), torch.linspace(0.5, 4, B).unsqueeze(1))
WEIGHT = torch.linspace(1, 2, B, dtype=torch.float64)
LOSSES = {
    "kl": lambda s, t: losses.kl_divergence(s, t, 4.0),
    "kl, a temperature for each sample": lambda s, t: losses.kl_divergence(s, t, torch.linspace(0.5, 8, B)),
    "kl, a pair": lambda s, t: losses.kl_divergence(s, t, PAIR),
    "dkd": lambda s, t: losses.dkd_loss(s, t, HARD, reduction="none"),
    "dkd, all by sample": lambda s, t: losses.dkd_loss(
        s, t, SOFT, alpha=WEIGHT, beta=3 * WEIGHT, temperature=2 * WEIGHT, reduction="none"
    ),
    "rld": lambda s, t: losses.rld_loss(s, t, HARD, reduction="none"),
    "rld, soft labels": lambda s, t: losses.rld_loss(
        s, t, SOFT, alpha=2.0, confidence_temperature=3.0, reduction="none"
    ),
    "dist": lambda s, t: losses.dist_loss(s, t, reduction="none"),
    "r2kd_value": lambda s, t: losses.r2kd_value_loss(s, t, reduction="none"),
}


def logits(size=3.0, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return (size * torch.randn(2, B, C, generator=g, dtype=torch.float64)).to(dtype)


def relative(found, exact):
    return ((found - exact).abs().max() / (exact.abs().max() + 1e-3)).item()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("size", [0.0, 0.1, 3.0, 40.0, 1e4])
def test_value_and_gradient_are_those_of_the_definition(name, size):
    s, t = logits(size)
    s.requires_grad_()
    value = LOSSES[name](s, t)
    with torch.no_grad():
        plain = LOSSES[name](s, t)
    (by_hand,) = torch.autograd.grad(value, s, WEIGHT, retain_graph=True)
    (again,) = torch.autograd.grad(value, s, WEIGHT, retain_graph=True)
    (by_autograd,) = torch.autograd.grad(value, s, WEIGHT, create_graph=True)
    assert relative(value, plain) < 1e-10 and torch.equal(by_hand, again)
    assert by_autograd.requires_grad and relative(by_hand, by_autograd) < 1e-8


@pytest.mark.parametrize("name", LOSSES)
def test_second_derivative(name):
    s, t = logits(2.0)
    assert torch.autograd.gradgradcheck(lambda x: LOSSES[name](x, t), s.requires_grad_(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("name", [n for n in LOSSES if "pair" not in n and "soft" not in n and "all" not in n])
def test_transforms_of_functions(name):
    s, t = logits()
    (expected,) = torch.autograd.grad(LOSSES[name](s.requires_grad_(), t).sum(), s)
    found = torch.func.grad(lambda x: LOSSES[name](x, t).sum())(s.detach())
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["kl", "dkd", "rld"])
@pytest.mark.parametrize("size", [5.0, 400.0, 1e4])
def test_single_precision_is_that_of_fp32(name, size):
    s, t = logits(size, seed=1, dtype=torch.float32)
    results = []
    for dtype in (torch.float32, torch.float64):
        z = s.to(dtype, copy=True).requires_grad_()
        value = LOSSES[name](z, t.to(dtype))
        results.append((value.detach(), torch.autograd.grad(value.sum(), z)[0]))
    for found, exact in zip(*results, strict=True):
        assert relative(found, exact) < 1e-6


def test_temperatures_and_weights_that_learn_get_their_gradient():
    s, t = logits()
    one = torch.full((1, 1), 4.0, dtype=torch.float64, requires_grad=True)
    beta = torch.full((B,), 8.0, dtype=torch.float64, requires_grad=True)
    losses.kl_divergence(s.requires_grad_(), t, Temperatures(one, one)).sum().backward()
    losses.dkd_loss(s, t, HARD, beta=beta).backward()
    assert one.grad.abs() > 0 and (beta.grad > 0).all()
