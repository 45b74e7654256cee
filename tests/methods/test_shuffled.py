"""``--loss.shuffled``: each sample has the temperature of another of its batch, which tells what difficulty adds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd import DLKDLoss, kd_loss
from dlkd.errors import UserError
from dlkd.methods import LossOptions, Signals, make_method, resolve_loss

NAMES = ("dlkd", "energy", "dlkd-robust", "dlkd+dkd")
"""Methods that give each sample a temperature by its difficulty."""


def signals(n=64, seed=0):
    g = torch.Generator().manual_seed(seed)
    student, teacher, probe = torch.randn(3, n, 5, generator=g, dtype=torch.float64) * 3
    level = torch.rand(n, generator=g, dtype=torch.float64)
    return Signals(student.requires_grad_(), teacher, torch.randint(0, 5, (n,), generator=g), level, probe)


def made(name, **loss):
    return make_method(name, LossOptions(**loss))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 2**32), st.floats(1, 8), st.floats(1, 8))
def test_a_permutation_of_the_temperatures_of_the_batch(n, seed, t_easy, t_hard):
    given_signals = signals(n, seed)
    plain = made("dlkd", t_easy=t_easy, t_hard=t_hard).temperature(given_signals).student
    torch.manual_seed(seed)
    found = made("dlkd", t_easy=t_easy, t_hard=t_hard, shuffled=True).temperature(given_signals)
    assert found.student.shape == plain.shape == (n, 1) and torch.equal(found.student, found.teacher)
    assert torch.equal(found.student.sort(dim=0).values, plain.sort(dim=0).values)


@pytest.mark.parametrize("name", NAMES)
def test_shuffled_is_another_order_every_time(name):
    rule, plain = (made(name, shuffled=shuffled).temperature for shuffled in (True, False))
    given_signals = signals()
    torch.manual_seed(0)
    first, second = (rule(given_signals).student for _ in range(2))
    torch.manual_seed(0)
    again = rule(given_signals).student
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert not torch.equal(first, plain(given_signals).student)
    assert torch.equal(plain(given_signals).student, plain(given_signals).student)


def test_temperatures_say_nothing_of_the_difficulty_any_more():
    """Over many batches a sample has each of the temperatures of its batch equally often."""
    given_signals = signals(8)
    rule = made("dlkd", shuffled=True).temperature
    plain = made("dlkd").temperature(given_signals).student.flatten()
    torch.manual_seed(0)
    drawn = torch.stack([rule(given_signals).student.flatten() for _ in range(4000)])
    assert len(set(plain.tolist())) == 8
    shares = np.array([[(drawn[:, k] == t).double().mean().item() for t in plain] for k in range(8)])
    # A share of 1/8 of 4,000 draws has a standard error of 0.0052; the largest of 64 is within five of them.
    assert np.abs(shares - 1 / 8).max() < 5 * np.sqrt(7 / 64 / 4000)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.5, 20), st.integers(0, 2**16), st.sampled_from(["per_sample", "mean"]))
def test_equal_temperatures_are_kd_in_any_order(temperature, seed, scale):
    s = signals(9, seed)
    criterion = DLKDLoss(temperature, temperature, shuffled=True, scale=scale, ce_weight=0, kd_weight=1)
    ours = criterion(s.student_logits, s.teacher_logits, s.target, level=s.level)
    plain = kd_loss(s.student_logits, s.teacher_logits, temperature=temperature)
    assert torch.equal(ours, plain) if scale == "per_sample" else ours.item() == pytest.approx(plain.item(), rel=1e-12)


def test_the_loss_of_the_drawn_order():
    """Each term by hand with the temperature that its sample was given, T² included."""
    s = signals(7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(5)
    ours = DLKDLoss(shuffled=True, ce_weight=0, kd_weight=1)(
        s.student_logits, s.teacher_logits, s.target, level=s.level
    )
    t = (2 + 4 * s.level)[order, None]
    p, q = (s.teacher_logits / t).softmax(1), (s.student_logits / t).log_softmax(1)
    expected = (t.squeeze(1) ** 2 * (p * (p.log() - q)).sum(1)).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-6)


def test_options():
    assert resolve_loss("dlkd", LossOptions())["shuffled"] is False
    assert resolve_loss("dlkd", LossOptions(shuffled=True))["shuffled"] is True
    with pytest.raises(UserError, match="shuffled"):
        resolve_loss("kd", LossOptions(shuffled=True))
    # Parts of a batch, as each of several processes has them, have another permutation than the whole.
    assert made("dlkd").per_sample and not made("dlkd", shuffled=True).per_sample


def test_a_run_is_repeated_to_the_last_bit(distill, good, same, tmp_path):
    """And goes another way than one that is not shuffled."""
    for name, more in (("one", ("--loss.shuffled", "true")), ("two", ("--loss.shuffled", "true")), ("plain", ())):
        good(*distill(tmp_path / name, "--method", "dlkd", *more))
    assert same(tmp_path / "one", tmp_path / "two") and not same(tmp_path / "one", tmp_path / "plain")
