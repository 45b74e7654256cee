"""Feature losses against official numbers, an independent float64 derivation, their invariances and extremes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlkd.losses import attention_loss, fitnet_loss, rkd_loss
from dlkd.losses.features import align_positions, pool

OFFICIAL = json.loads((Path(__file__).parent / "official_features.json").read_text())
LOSSES = {"fitnet": fitnet_loss, "at": attention_loss, "rkd": rkd_loss}


def features(*shape, seed=0, dtype=torch.float64):
    return torch.tensor(np.random.default_rng(seed).normal(0, 2, shape), dtype=dtype)


def pair(name, batch=5, dtype=torch.float64):
    """Student and teacher features that the loss takes."""
    teacher = {"fitnet": (3, 4, 4), "at": (5, 2, 2), "rkd": (7,)}[name]
    student = {"fitnet": (3, 4, 4), "at": (3, 4, 4), "rkd": (4,)}[name]
    return features(batch, *student, seed=1, dtype=dtype), features(batch, *teacher, seed=2, dtype=dtype)


@pytest.mark.parametrize("case", OFFICIAL["cases"], ids=lambda c: f"{c['function']}-{c['source'].split('/')[1]}")
def test_equal_to_the_official_code(case):
    inputs = {
        name: torch.tensor(OFFICIAL["inputs"][case[name]], dtype=torch.float64) for name in ("student", "teacher")
    }
    student = inputs["student"].requires_grad_()
    loss = {f.__name__: f for f in LOSSES.values()}[case["function"]]
    value = loss(student, inputs["teacher"], **case["arguments"])
    value.backward()
    assert value.item() == pytest.approx(case["value"], rel=1e-9)
    torch.testing.assert_close(student.grad, torch.tensor(case["gradient"], dtype=torch.float64), rtol=1e-8, atol=1e-11)


def test_every_source_has_its_commit():
    assert all(len(OFFICIAL["sources"][c["source"]]) == 40 for c in OFFICIAL["cases"])


def huber(x):
    return np.where(abs(x) < 1, x**2 / 2, abs(x) - 0.5)


def expected(name, s, t):
    """Loops over samples, written from the papers' formulas."""
    n = len(s)
    if name == "fitnet":
        return np.mean([((s[i] - t[i]) ** 2).mean() for i in range(n)])
    if name == "at":

        def attention(f):
            energy = sum(f[c] ** 2 for c in range(len(f))) / len(f)
            return energy / np.sqrt((energy**2).sum())

        pooled = [np.stack([[x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in (0, 1)] for i in (0, 1)])
                  for x in s.reshape(-1, 4, 4)]  # fmt: skip
        s = np.stack(pooled).reshape(n, -1, 2, 2)
        return np.mean([((attention(s[i]) - attention(t[i])) ** 2).mean() for i in range(n)])

    def relations(e):
        distance = np.array([[np.linalg.norm(a - b) for b in e] for a in e])
        unit = np.array([[(b - a) / np.linalg.norm(b - a) if (b != a).any() else b * 0 for b in e] for a in e])
        return distance / distance[distance > 0].mean(), np.einsum("abd,acd->abc", unit, unit)

    (distance_s, angle_s), (distance_t, angle_t) = relations(s), relations(t)
    return 25 * huber(distance_s - distance_t).mean() + 50 * huber(angle_s - angle_t).mean()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_float64_derivation(name, batch):
    s, t = pair(name, batch)
    assert LOSSES[name](s, t).item() == pytest.approx(
        expected(name, s.numpy(), t.numpy()) if batch > 1 or name != "rkd" else 0.0, rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("name", LOSSES)
def test_rows_average_to_the_mean(name):
    s, t = pair(name)
    rows = LOSSES[name](s, t, reduction="none")
    assert rows.shape == (5,) and torch.equal(rows.mean(), LOSSES[name](s, t)) and rows.min() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name):
    s, t = pair(name, batch=3)
    t.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, t), s.requires_grad_(), atol=1e-7, rtol=1e-4)
    LOSSES[name](s, t).backward()
    assert t.grad is None


@pytest.mark.parametrize("power", [1.0, 1.5, 3.0])
def test_gradient_of_other_powers(power):
    s, t = pair("at", batch=2)
    assert torch.autograd.gradcheck(lambda x: attention_loss(x, t, power=power), s.requires_grad_(), atol=1e-7)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(LOSSES)), st.integers(0, 2**16))
def test_batch_order_does_not_matter(name, seed):
    s, t = pair(name)
    order = torch.tensor(np.random.default_rng(seed).permutation(5))
    rows = LOSSES[name](s, t, reduction="none")
    torch.testing.assert_close(LOSSES[name](s[order], t[order], reduction="none"), rows[order])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_rkd_ignores_scale_rotation_and_translation(seed, scale, shift):
    s, t = pair("rkd")
    rotation = torch.linalg.qr(features(4, 4, seed=seed)).Q
    torch.testing.assert_close(rkd_loss(scale * s @ rotation + shift, t), rkd_loss(s, t), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(rkd_loss(s, t * scale - shift), rkd_loss(s, t), rtol=1e-7, atol=1e-9)
    assert rkd_loss(t[:, :4] @ rotation * scale + shift, t[:, :4]) < 1e-9


def test_attention_ignores_the_scale_of_each_sample_and_the_order_and_sign_of_channels():
    s, t = pair("at")
    changed = s * torch.tensor([1e-3, 1.0, 3.0, -2.0, 1e5]).double()[:, None, None, None]
    torch.testing.assert_close(attention_loss(changed[:, [2, 0, 1]], t), attention_loss(s, t))
    assert attention_loss(5 * s, s) < 1e-25


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("batch", [1, 2, 4])
@pytest.mark.parametrize("size", [1e4, 1.0, 1e-7, 1e-20, 0.0])
def test_finite_value_and_gradient(name, batch, size):
    for equal in (False, True):  # all samples the same: nothing has a direction
        s, t = (x * size for x in pair(name, batch, torch.float32))
        if equal:
            s, t = s[:1].expand_as(s).clone(), t[:1].expand_as(t)
        value = LOSSES[name](s.requires_grad_(), t)
        value.backward()
        assert value.isfinite() and s.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_full_precision_inside_autocast(name):
    s, t = pair(name, dtype=torch.bfloat16)
    outside = LOSSES[name](s.float(), t.float())
    with torch.autocast("cpu", torch.bfloat16):
        inside = LOSSES[name](s, t)
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)
    with torch.inference_mode():
        taught = t.clone()
    LOSSES[name](s.requires_grad_(), taught).backward()
    assert s.grad.isfinite().all()


def test_rkd_at_two_coincident_embeddings():
    s, t = pair("rkd")
    s[1] = s[0]
    s.requires_grad_()
    value = rkd_loss(s, t)
    value.backward()
    assert value.item() == pytest.approx(expected("rkd", s.detach().numpy(), t.numpy()), rel=1e-9)
    assert s.grad.isfinite().all() and s.grad[2:].abs().min() > 0
    # 1e-9 apart in fp32 is rounding, and has no direction to be taught.
    near = s.detach().float()
    near[1] += 1e-9
    near.requires_grad_()
    rkd_loss(near, t.float()).backward()
    torch.testing.assert_close(near.grad.double(), s.grad, rtol=1e-3, atol=1e-4)


def test_rkd_in_fp32_far_from_the_origin():
    s, t = pair("rkd", batch=8)
    far = (s + 100).float()
    assert rkd_loss(far, t.float()).item() == pytest.approx(rkd_loss(far.double(), t).item(), rel=1e-5)


def test_rkd_takes_the_mean_over_positions():
    maps, tokens = features(5, 3, 2, 2, seed=3), features(5, 6, 4, seed=4)
    by_hand = rkd_loss(maps.flatten(2).mean(2), tokens.mean(1))
    torch.testing.assert_close(rkd_loss(maps, tokens), by_hand)
    assert torch.equal(pool(features(5, 3)), features(5, 3))


def test_tokens_are_a_grid_where_they_can_be():
    maps, other = features(2, 3, 4, 4, seed=5), features(2, 5, 4, 4, seed=6)
    tokens = maps.flatten(2).transpose(1, 2)
    value = attention_loss(maps, other)
    torch.testing.assert_close(attention_loss(tokens, other), value)
    with_class = torch.cat([1e3 * features(2, 1, 3), tokens], dim=1)
    torch.testing.assert_close(attention_loss(with_class, other), value)
    torch.testing.assert_close(attention_loss(with_class, other.flatten(2).transpose(1, 2)), value)
    coarse = torch.nn.functional.avg_pool2d(other, 2)
    torch.testing.assert_close(attention_loss(with_class, coarse), attention_loss(maps, coarse))


def test_tokens_that_are_no_grid_are_a_sequence():
    s, t = features(2, 6, 3, seed=7), features(2, 12, 5, seed=8)
    halved = t.reshape(2, 6, 2, 5).mean(2)
    torch.testing.assert_close(attention_loss(s, t), attention_loss(s, halved))
    maps = features(2, 3, 3, 4, seed=9)
    torch.testing.assert_close(attention_loss(maps, t), attention_loss(maps.flatten(2).transpose(1, 2), t))


def test_aligned_positions():
    same = features(2, 5, 3), features(2, 5, 7)  # as many tokens: the class token stays
    assert all(torch.equal(a, b) for a, b in zip(align_positions(*same), same, strict=True))
    shapes = [
        ((4, 8, 6), (5, 4, 12), (24, 4), (24, 5)),
        ((17, 4), (5, 8, 8), (16, 4), (16, 5)),
        ((17, 4), (65, 5), (16, 4), (16, 5)),
        ((4,), (5, 8, 8), (1, 4), (1, 5)),
        ((9, 4), (5,), (1, 4), (1, 5)),
        ((4,), (5,), (1, 4), (1, 5)),
    ]
    for s, t, a, b in shapes:
        found = align_positions(features(2, *s), features(2, *t))
        assert [tuple(x.shape[1:]) for x in found] == [a, b], (s, t)


def test_bad_features():
    with pytest.raises(ValueError, match=r"one shape .* \[2, 3\] and \[2, 4\]; adapt"):
        fitnet_loss(features(2, 3), features(2, 4))
    with pytest.raises(ValueError, match=r"before the pooling"):
        attention_loss(features(2, 3), features(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"power"):
        attention_loss(features(2, 3, 2, 2), features(2, 3, 2, 2), power=0.5)
    for bad in (features(3), features(3, 2), features(2, 3, 2, 2, 2)):
        with pytest.raises(ValueError, match=r"expected features \[B, D\]"):
            rkd_loss(bad, features(2, 3))
    for name in LOSSES:
        with pytest.raises(ValueError, match="reduction"):
            LOSSES[name](*pair(name), reduction="sum")
