"""prune_teacher: how many weights, which ones, what is left alone."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, weight_norm

from dlkd import prune_teacher
from dlkd.difficulty.probe import has_attention
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


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "computed",
    [
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        weight_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.1),
    ],
)
def test_weights_that_are_computed_anew_are_refused(computed):
    """A weight that is written to is another one in the next forward: nothing would be pruned, without a word."""
    model = nn.Sequential(nn.Linear(4, 4), computed(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match=r"weight of a \w*Linear is computed anew .* remove the parametrization first"):
        prune_teacher(model, 0.5)
    if parametrize.is_parametrized(model[1]):
        parametrize.remove_parametrizations(model[1], "weight")
        assert zeros(prune_teacher(model, 0.5)) == 16


@pytest.mark.parametrize("widths", [{}, {"kdim": 6, "vdim": 10}])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_projections_of_attention_are_pruned(widths, scope):
    torch.manual_seed(0)
    model = nn.Sequential(nn.MultiheadAttention(8, 2, batch_first=True, **widths), nn.Linear(8, 4))
    probe = prune_teacher(model, 0.25, scope)
    pruned = [p for p in probe.parameters() if p.ndim > 1]
    assert sum(int((p == 0).sum()) for p in pruned) == sum(p.numel() for p in pruned) / 4
    projections = [p for name, p in probe.named_parameters() if "_proj_weight" in name]
    assert len(projections) == (3 if widths else 1)
    for p in projections if scope == "layer" else ():
        assert int((p == 0).sum()) == p.numel() / 4
    largest = max(p.abs().max() for p in pruned)
    assert largest == max(p.abs().max() for p in model.parameters() if p.ndim > 1)


def test_random_masks_of_models_without_attention_are_what_they_were():
    """A draw for each layer in module order: of stores and runs that are there already."""
    model, generator = cifar_resnet("resnet8", 10), torch.Generator().manual_seed(3)
    probe = prune_teacher(model, 0.3, "layer", criterion="random", seed=3)
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert not has_attention(model)
    for layer, pruned in zip(layers, (m for m in probe.modules() if isinstance(m, nn.Conv2d | nn.Linear)), strict=True):
        drawn = torch.rand(layer.weight.numel(), generator=generator)
        kept = drawn >= drawn.sort().values[round(0.3 * len(drawn))]
        assert torch.equal(pruned.weight, layer.weight * kept.reshape(layer.weight.shape))


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
