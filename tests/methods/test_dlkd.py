"""DLKDLoss against a float64 derivation, its identity with kd_loss, scales and errors."""

import pytest
import torch

from dlkd import DLKDLoss, kd_loss, probe_distance


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
def test_equal_temperatures_are_kd_to_the_last_bit(dtype):
    s, t, p, y = logits()
    s, t, p = s.to(dtype).requires_grad_(), t.to(dtype), p.to(dtype)
    criterion = DLKDLoss(3.3, 3.3, level="batch", ce_weight=0, kd_weight=1)
    ours, plain = criterion(s, t, y, probe_logits=p), kd_loss(s, t, 3.3)
    assert torch.equal(ours, plain)
    assert torch.equal(torch.autograd.grad(ours, s)[0], torch.autograd.grad(plain, s)[0])


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


def test_reference_is_in_the_state_dict():
    criterion = DLKDLoss()
    criterion.calibrate(torch.rand(50))
    again = DLKDLoss()
    again.load_state_dict(criterion.state_dict())
    assert int(again.level.count) == 50


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
