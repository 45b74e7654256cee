"""Adapters and the sum over layers."""

import pytest
import torch
import torch.nn.functional as F

from dlkd.features import FeatureMethod, make_adapter
from dlkd.losses import attention_loss, rkd_loss

SHAPES = {"map": (16, 8, 8), "small map": (12, 4, 4), "tokens": (17, 24), "more tokens": (65, 24), "vector": (10,)}


def features(shape, batch=4, seed=0):
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("student", SHAPES)
@pytest.mark.parametrize("teacher", SHAPES)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_pair_of_shapes_learns(student, teacher, batch):
    torch.manual_seed(0)
    shapes = [SHAPES[student]], [SHAPES[teacher]]
    s, t = features(SHAPES[student], batch), features(SHAPES[teacher], batch, 1)
    for loss in ("fitnet", "at", "rkd"):
        if loss == "at" and "vector" in (student, teacher):
            with pytest.raises(ValueError, match=r"several positions for attention, but the .* are \[10\]"):
                FeatureMethod(loss).connect(*shapes)
            continue
        method = FeatureMethod(loss).connect(*shapes)
        rows = method([s.requires_grad_()], [t])
        assert rows.shape == (batch,)
        gradient = torch.autograd.grad(rows.mean(), [s, *method.parameters()], allow_unused=True)
        assert all(g is not None and g.isfinite().all() for g in gradient)
        # One sample has no relations, and the batch norm of one row that of the running statistics.
        assert gradient[0].abs().sum() > 0 or (loss == "rkd" and batch == 1)
        assert bool(list(method.parameters())) == (loss == "fitnet")


def test_fitnet_by_hand():
    torch.manual_seed(0)
    method = FeatureMethod("fitnet").connect([(16, 8, 8)], [(12, 4, 4)])
    s, t = features((16, 8, 8)), features((12, 4, 4), seed=1)
    (adapter,) = method.adapters
    pooled = F.avg_pool2d(s, 2)
    mapped = F.conv2d(pooled, adapter.linear.weight[:, :, None, None])
    mapped = F.batch_norm(mapped, None, None, adapter.norm.weight, adapter.norm.bias, training=True)
    torch.testing.assert_close(method([s], [t]).mean(), F.mse_loss(mapped, t))


def test_the_adapter_finds_a_linear_map():
    torch.manual_seed(0)
    s = features((6, 4, 4), 32)
    t = torch.einsum("oc,bchw->bohw", torch.randn(8, 6), s) + 3
    method = FeatureMethod("fitnet").connect([(6, 4, 4)], [(8, 4, 4)])
    optimizer = torch.optim.Adam(method.parameters(), 0.05)
    first = method([s], [t]).mean().item()
    for _ in range(200):
        optimizer.zero_grad()
        loss = method([s], [t]).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3 * first
    method.eval()
    assert method([s], [t]).mean().item() < 0.02 * first


def test_several_layers_are_summed():
    s = [features((16, 8, 8)), features((8, 4, 4))]
    t = [features((12, 4, 4), seed=1), features((9, 24), seed=2)]
    shapes = [x.shape[1:] for x in s], [x.shape[1:] for x in t]
    at = FeatureMethod("at").connect(*shapes)(s, t)
    torch.testing.assert_close(at.mean(), attention_loss(s[0], t[0]) + attention_loss(s[1], t[1]))
    rkd = FeatureMethod("rkd", distance_weight=1.0, angle_weight=0.0)(s, t)
    by_hand = sum(rkd_loss(a, b, distance_weight=1.0, angle_weight=0.0) for a, b in zip(s, t, strict=True))
    torch.testing.assert_close(rkd.mean(), by_hand)


def test_full_precision_inside_autocast():
    torch.manual_seed(0)
    s, t = features((16, 4, 4)).bfloat16(), features((12, 4, 4), seed=1).bfloat16()
    method = FeatureMethod("fitnet").connect([(16, 4, 4)], [(12, 4, 4)])
    outside = method([s.float()], [t.float()])
    with torch.autocast("cpu", torch.bfloat16):
        inside = method([s], [t])
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)


def test_refusals():
    with pytest.raises(ValueError, match=r"as many layers .* but got 1 and 2"):
        FeatureMethod("at").connect([(8, 4, 4)], [(8, 4, 4)] * 2)
    with pytest.raises(ValueError, match=r"loss to be one of .*'rkd'"):
        FeatureMethod("ofd")
    with pytest.raises(ValueError, match="angle_weight"):
        FeatureMethod("rkd", angle_weight=-1.0)
    with pytest.raises(ValueError, match="shape of features"):
        make_adapter((8, 4, 4, 4), (8,))
    one = [features((8, 4, 4))]
    with pytest.raises(ValueError, match="connect it to its layers first"):
        FeatureMethod("fitnet")(one, one)
    for s, t in (([], []), (one, [])):
        with pytest.raises(ValueError, match="features of as many layers"):
            FeatureMethod("at")(s, t)
