"""prune_teacher: how many weights, which ones, what is left alone."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from dlkd import prune_teacher
from dlkd.models import cifar_resnet


def zeros(model):
    return sum(int((m.weight == 0).sum()) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


@pytest.mark.parametrize(
    ("sparsity", "scope", "expected"),
    # resnet56 with 100 classes has 857,264 convolution and linear weights; figures of the reference.
    [(0.1, "layer", 85_719), (0.3, "layer", 257_176), (0.3, "global", 257_179), (0.0, "global", 0)],
)
def test_number_of_zeroed_weights(sparsity, scope, expected):
    assert zeros(prune_teacher(cifar_resnet("resnet56", 100), sparsity, scope)) == expected


def test_equals_torch_pruning():
    model = cifar_resnet("resnet8", 10)
    probe = prune_teacher(model, 0.4, "global")
    theirs = prune_teacher(model, 0.0)
    layers = [(m, "weight") for m in theirs.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.4)
    for (layer, _), ours in zip(
        layers, [m for m in probe.modules() if isinstance(m, nn.Conv2d | nn.Linear)], strict=True
    ):
        assert torch.equal(layer.weight, ours.weight)


def test_original_untouched_copy_frozen_channels_last_allowed():
    model = cifar_resnet("resnet8", 10).train().to(memory_format=torch.channels_last)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    probe = prune_teacher(model, 0.5, "layer")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert model.training and not probe.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in probe.parameters())
    plain = prune_teacher(cifar_like(model), 0.5, "layer")
    assert all(torch.equal(a, b) for a, b in zip(probe.parameters(), plain.parameters(), strict=True))


def cifar_like(model):
    copy = cifar_resnet("resnet8", 10)
    copy.load_state_dict(model.state_dict())
    return copy


def test_random_masks_are_seeded_and_differ():
    model = cifar_resnet("resnet8", 10)
    a, b, c = (prune_teacher(model, 0.3, criterion="random", seed=s) for s in (1, 1, 2))
    assert torch.equal(a.conv1.weight, b.conv1.weight) and not torch.equal(a.conv1.weight, c.conv1.weight)


def test_tied_weights_counted_once():
    a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    b.weight = a.weight
    probe = prune_teacher(nn.Sequential(a, b), 0.5)
    assert int((probe[0].weight == 0).sum()) == 8 and probe[0].weight is probe[1].weight


@pytest.mark.parametrize("bad", [-0.1, 1.0, float("nan")])
def test_bad_sparsity(bad):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        prune_teacher(nn.Linear(2, 2), bad)


def test_other_errors():
    with pytest.raises(ValueError, match="scope"):
        prune_teacher(nn.Linear(2, 2), 0.1, "all")
    with pytest.raises(ValueError, match="criterion"):
        prune_teacher(nn.Linear(2, 2), 0.1, criterion="l2")
    with pytest.raises(ValueError, match="found none"):
        prune_teacher(nn.ReLU(), 0.1)
