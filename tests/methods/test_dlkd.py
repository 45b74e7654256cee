"""DLKDLoss against a float64 derivation, its identity with kd_loss, scales and errors."""

import io
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd import DLKDLoss, kd_loss, probe_distance
from dlkd.difficulty import DifficultyScore


def logits(dtype=torch.float64):
    g = torch.Generator().manual_seed(3)
    s, t, p = torch.randn(3, 8, 6, generator=g, dtype=dtype) * 3
    return s, t, p, torch.randint(0, 6, (8,), generator=g)


@pytest.mark.parametrize("scale", ["per_sample", "mean", "none"])
@pytest.mark.parametrize(("t_easy", "t_hard", "gamma"), [(2, 6, 1), (6, 2, 1), (1, 5, 2)])
def test_float64_derivation(scale, t_easy, t_hard, gamma):
    s, t, p, y = logits()
    criterion = DLKDLoss(t_easy, t_hard, gamma, level="absolute", scale=scale)
    got = criterion(s, t, y, probe_logits=p)
    d = (t.softmax(1) - p.softmax(1)).pow(2).sum(1).sqrt()
    temp = t_easy + (t_hard - t_easy) * (d / 2**0.5) ** gamma
    pt, qs = (t / temp[:, None]).softmax(1), (s / temp[:, None]).softmax(1)
    kl = (pt * (pt / qs).log()).sum(1)
    factor = {"per_sample": temp**2, "mean": (temp**2).mean(), "none": torch.ones(8)}[scale]
    expected = 0.1 * -s.softmax(1).log()[range(8), y].mean() + 0.9 * (factor * kl).mean()
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)  # levels are fp32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("level", ["rank", "uncalibrated", "absolute", "batch", "given"])
@pytest.mark.filterwarnings("ignore:the difficulty level has no reference")
@settings(deadline=None, max_examples=20)
@given(st.floats(0.5, 20), st.floats(0.2, 4), st.integers(0, 2**16))
def test_equal_temperatures_are_kd_to_the_last_bit(level, dtype, temperature, gamma, seed):
    g = torch.Generator().manual_seed(seed)
    s, t, p = (torch.randn(3, 9, 6, generator=g) * 4).to(dtype)
    y = torch.randint(0, 6, (9,), generator=g)
    s.requires_grad_()
    mode = level if level in ("absolute", "batch") else "rank"
    criterion = DLKDLoss(temperature, temperature, gamma, level=mode, ce_weight=0, kd_weight=1)
    if level == "rank":
        criterion.calibrate(torch.rand(200, generator=g))
    how = {"level": torch.rand(9, generator=g)} if level == "given" else {"probe_logits": p}
    ours, plain = criterion(s, t, y, **how), kd_loss(s, t, temperature=temperature)
    assert ours.dtype == plain.dtype and torch.equal(ours, plain)
    assert torch.equal(torch.autograd.grad(ours, s)[0], torch.autograd.grad(plain, s)[0])


def test_the_weighted_sum_is_kd_and_cross_entropy():
    s, t, p, y = logits()
    criterion = DLKDLoss(3.3, 3.3, level="batch", ce_weight=0.25, kd_weight=0.5)
    expected = 0.25 * torch.nn.functional.cross_entropy(s, y) + 0.5 * kd_loss(s, t, temperature=3.3)
    torch.testing.assert_close(criterion(s, t, y, probe_logits=p), expected, rtol=1e-12, atol=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**16), st.sampled_from(["rank", "absolute", "batch"]), st.sampled_from(["per_sample", "mean"]))
def test_order_of_the_batch_is_nothing(seed, level, scale):
    g = torch.Generator().manual_seed(seed)
    s, t, p = torch.randn(3, 8, 6, generator=g, dtype=torch.float64)
    y, order = torch.randint(0, 6, (8,), generator=g), torch.randperm(8, generator=g)
    criterion = DLKDLoss(level=level, scale=scale)
    criterion.calibrate(torch.rand(100, generator=g))
    a = criterion(s, t, y, probe_logits=p)
    b = criterion(s[order], t[order], y[order], probe_logits=p[order])
    torch.testing.assert_close(a, b, rtol=1e-10, atol=0)


def test_harder_images_get_the_temperature_of_t_hard():
    s, t, _, y = logits()
    for level, temperature in ((0.0, 2.0), (0.5, 4.0), (1.0, 6.0)):
        got = DLKDLoss(ce_weight=0, kd_weight=1)(s, t, y, level=torch.full((8,), level))
        torch.testing.assert_close(got, kd_loss(s, t, temperature=temperature), rtol=1e-12, atol=0)


def test_uncalibrated_rank_warns_once_and_ranks_in_the_batch():
    s, t, p, y = logits()
    criterion = DLKDLoss()
    with pytest.warns(UserWarning, match="calibrate") as caught:
        first = criterion(s, t, y, probe_logits=p)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(criterion(s, t, y, probe_logits=p), first)
    assert torch.equal(first, DLKDLoss(level="batch")(s, t, y, probe_logits=p))


def test_distance_temperature_is_that_of_the_distance():
    s, t, p, y = logits()
    a = DLKDLoss(level="absolute", distance_temperature=4.0)(s, t, y, probe_logits=p)
    b = DLKDLoss(level="absolute")(s, t, y, distance=probe_distance(t, p, temperature=4.0))
    assert torch.equal(a, b) and a != DLKDLoss(level="absolute")(s, t, y, probe_logits=p)


@pytest.mark.parametrize("level", [torch.rand(7), torch.rand(8, 1), torch.full((8,), 1.01), torch.full((8,), -0.01)])
def test_bad_levels(level):
    s, t, _, y = logits()
    with pytest.raises(ValueError, match=r"levels in \[0, 1\] of shape \[8\]"):
        DLKDLoss()(s, t, y, level=level)
    with pytest.raises(ValueError, match="levels"):
        DLKDLoss()(s, t, y, level=torch.full((8,), torch.nan))


def test_distance_instead_of_probe_logits_and_soft_labels():
    s, t, p, y = logits(torch.float32)
    criterion = DLKDLoss()
    criterion.calibrate(torch.rand(300))
    soft = torch.nn.functional.one_hot(y, 6).float()
    a = criterion(s, t, y, probe_logits=p)
    b = criterion(s, t, soft, distance=probe_distance(t, p))
    torch.testing.assert_close(a, b)


def test_mean_scale_uses_the_reference():
    s, t, p, y = logits()
    criterion = DLKDLoss(2, 6, scale="mean", ce_weight=0, kd_weight=1)
    criterion.calibrate(torch.linspace(0, 1, 1000))
    bare = DLKDLoss(2, 6, scale="none", ce_weight=0, kd_weight=1)
    bare.level.load_state_dict(criterion.level.state_dict())
    ratio = criterion(s, t, y, probe_logits=p) / bare(s, t, y, probe_logits=p)
    # mean of (2 + 4u)² for u uniform in [0, 1] is 4 + 8 + 16/3
    assert ratio.item() == pytest.approx(4 + 8 + 16 / 3, rel=1e-3)


@pytest.mark.parametrize("scale", ["per_sample", "mean"])
def test_reference_is_in_the_state_dict(scale):
    s, t, p, y = logits()
    criterion, again = DLKDLoss(scale=scale), DLKDLoss(scale=scale)
    criterion.calibrate(torch.rand(50) ** 3)
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert int(again.level.count) == 50 and torch.equal(again.level.quantiles, criterion.level.quantiles)
    assert torch.equal(*(c(s, t, y, probe_logits=p) for c in (criterion, again)))
    # A loss without a reference says something else, so the state is what made them equal.
    other = DLKDLoss(level="batch", scale=scale)
    assert other(s, t, y, probe_logits=p) != criterion(s, t, y, probe_logits=p)


@pytest.mark.parametrize(("mode", "expected"), [("absolute", (2 + 4 * 0.5) ** 2), ("batch", None)])
def test_mean_scale_of_the_other_levels(mode, expected):
    s, t, p, y = logits()
    criterion = DLKDLoss(2, 6, level=mode, scale="mean", ce_weight=0, kd_weight=1)
    bare = DLKDLoss(2, 6, level=mode, scale="none", ce_weight=0, kd_weight=1)
    criterion.calibrate(torch.full((100,), 0.5**0.5))  # a reference whose absolute level is ½
    temperature = 2 + 4 * criterion.level(probe_distance(t, p)).double()
    ratio = criterion(s, t, y, probe_logits=p) / bare(s, t, y, probe_logits=p)
    assert ratio.item() == pytest.approx(temperature.square().mean().item() if expected is None else expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"t_easy": 0.0}, "t_easy"),
        ({"t_hard": -1.0}, "t_hard"),
        ({"gamma": 0.0}, "gamma"),
        ({"level": "best"}, "level"),
        ({"scale": "t2"}, "scale"),
        ({"ce_weight": -0.1}, "ce_weight"),
        ({"kd_weight": float("nan")}, "kd_weight"),
        ({"distance_temperature": 0.0}, "distance_temperature"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DLKDLoss(**arguments)


def test_exactly_one_source_of_difficulty():
    s, t, p, y = logits()
    for extra in ({}, {"probe_logits": p, "distance": torch.rand(8)}):
        with pytest.raises(ValueError, match="exactly one"):
            DLKDLoss()(s, t, y, **extra)


def test_a_distance_for_each_sample():
    s, t, _, y = logits()
    with pytest.raises(ValueError, match=r"distances of shape \[8\]"):
        DLKDLoss()(s, t, y, distance=torch.rand(1))


def test_images_without_labels_leave_the_label_term_out():
    g = torch.Generator().manual_seed(5)
    s, t = torch.randn(2, 6, 4, generator=g)
    level = torch.linspace(0, 1, 6)
    found = DLKDLoss(ce_weight=0.7)(s, t, None, level=level)
    torch.testing.assert_close(found, 0.9 * kd_loss(s, t, temperature=2 + 4 * level))


def test_a_score_of_the_teacher_alone_needs_nothing_else():
    g = torch.Generator().manual_seed(6)
    s, t = torch.randn(2, 6, 4, generator=g)
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    for name in ("entropy", "cross_entropy"):
        criterion = DLKDLoss(score=name, level="batch")
        distance = DifficultyScore(name)(t, target=y)
        torch.testing.assert_close(criterion(s, t, y), criterion(s, t, y, distance=distance))
    with pytest.raises(ValueError, match="exactly one of"):
        DLKDLoss()(s, t, y)
