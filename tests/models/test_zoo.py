"""The networks of the standard pairs: equal to the official classes, and fit for everything a teacher goes through."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from dlkd.difficulty import prune_teacher
from dlkd.features import FeatureTap, default_layers, stages
from dlkd.methods import METHODS
from dlkd.models import CIFAR_MODELS, build_model
from dlkd.teacher import fold_batch_norms

# Counts, layouts and logits of mdistiller's own classes, filled by fill() below and shown image() below.
OFFICIAL = json.loads((Path(__file__).parent / "official.json").read_text())["models"]
FAMILIES = [
    *("wrn16_1", "wrn16_2", "vgg8", "cifar:resnet18", "cifar:resnet50"),
    *("shufflenet_v1", "shufflenet_v2", "mobilenet_v2", "mobilenet_v1"),
]


def on_meta(name, classes=100, channels=3):
    """The model without memory for its weights: shapes and counts need none."""
    with torch.device("meta"):
        return build_model(name, classes, channels=channels).eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model, side, channels=3):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, channels, side, side, device="meta"))
    return counter.get_total_flops() // 2


def uniform(count, stream):
    """``count`` numbers in [0, 1) by hashing integers: the same on every machine."""
    x = (torch.arange(count) + stream * 2654435769) & 0xFFFFFFFF
    for factor, shift in ((2246822519, 15), (3266489917, 13), (668265263, 16)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return (x ^ (x >> 15)).double() / 2**32


@torch.no_grad()
def fill(model):
    """Give every tensor values that its place among the sorted names decides; statistics and scales as of training."""
    for k, (name, tensor) in enumerate(sorted(model.state_dict().items())):
        if tensor.is_floating_point():
            values = uniform(tensor.numel(), k + 1).reshape(tensor.shape)
            if tensor.ndim > 1:
                values = (2 * values - 1) * (6 / tensor[0].numel()) ** 0.5
            else:
                values += 0.5 if name.endswith(("running_var", "weight")) else -0.5
            tensor.copy_(values)
    return model.double().eval()


def image(side):
    return 4 * uniform(3 * side**2, 0).reshape(1, 3, side, side) - 2


@pytest.mark.parametrize(("name", "official"), OFFICIAL.items())
def test_counts_and_layout_are_those_of_the_official_class(name, official):
    model = on_meta(name, official["classes"])
    assert parameters(model) == official["parameters"]
    assert multiply_adds(model, official["side"]) == official["multiply_adds"]
    # So a file of the official class loads as it is.
    lines = (f"{key} {list(value.shape)}" for key, value in sorted(model.state_dict().items()))
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == official["layout"]


@pytest.mark.parametrize(("name", "official"), OFFICIAL.items())
def test_logits_are_those_of_the_official_class(name, official):
    with torch.no_grad():
        logits = fill(build_model(name, official["classes"]))(image(official["side"]))[0, :4]
    assert logits.tolist() == pytest.approx(official["logits"], rel=1e-9)


def test_everything_of_ours_is_compared():
    ours = {name.removeprefix("cifar:") for name in OFFICIAL}
    assert {*CIFAR_MODELS, "mobilenet_v1"} - ours == {"resnet8x0.5"}


@pytest.mark.parametrize(
    ("name", "classes", "extra", "millions", "digits"),
    [
        # He et al. 2016, table 6; Zagoruyko & Komodakis 2017 (attention transfer), table 1: CIFAR-10.
        ("resnet110", 10, 0, 1.7, 1),
        ("wrn16_1", 10, 0, 0.2, 1),
        ("wrn16_2", 10, 0, 0.7, 1),
        ("wrn40_1", 10, 0, 0.6, 1),
        ("wrn40_2", 10, 0, 2.2, 1),
        # README of weiaicunzai/pytorch-cifar100.
        ("cifar:resnet18", 100, 0, 11.2, 1),
        ("cifar:resnet50", 100, 0, 23.7, 1),
        # README of chenyaofo/pytorch-cifar-models; its VGG has two more linear layers of 512, its ShuffleNetV2
        # a stem of 3×3 instead of 1×1.
        ("resnet20", 100, 0, 0.28, 2),
        ("resnet32", 100, 0, 0.47, 2),
        ("resnet44", 100, 0, 0.67, 2),
        ("resnet56", 100, 0, 0.86, 2),
        ("cifar:vgg11", 100, 2 * (512**2 + 512), 9.80, 2),
        ("cifar:vgg13", 100, 2 * (512**2 + 512), 9.99, 2),
        ("cifar:vgg16", 100, 2 * (512**2 + 512), 15.30, 2),
        ("cifar:vgg19", 100, 2 * (512**2 + 512), 20.61, 2),
        ("shufflenet_v2", 100, 24 * 3 * 8, 1.36, 2),
        # Howard et al. 2017, table 8.
        ("mobilenet_v1", 1000, 0, 4.2, 1),
    ],
)
def test_published_parameters(name, classes, extra, millions, digits):
    assert round((parameters(on_meta(name, classes)) + extra) / 1e6, digits) == millions


@pytest.mark.parametrize(
    ("name", "side", "extra", "millions", "digits"),
    [
        # The same sources.
        ("resnet20", 32, 0, 40.82, 2),
        ("resnet32", 32, 0, 69.13, 2),
        ("resnet44", 32, 0, 97.44, 2),
        ("resnet56", 32, 0, 125.75, 2),
        ("shufflenet_v2", 32, 24 * 3 * 8 * 32**2, 45.09, 2),
        ("mobilenet_v1", 224, 0, 569, 0),
    ],
)
def test_published_multiply_adds(name, side, extra, millions, digits):
    classes = 1000 if side == 224 else 100
    assert round((multiply_adds(on_meta(name, classes), side) + extra) / 1e6, digits) == millions


@pytest.mark.parametrize("name", CIFAR_MODELS)
def test_small_grey_images_and_no_narrow_layer(name):
    model = on_meta(f"cifar:{name}", 7, channels=1)
    assert model(torch.zeros(2, 1, 8, 8, device="meta")).shape == (2, 7)
    assert min(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)) >= 8


def test_vgg_refuses_images_it_would_halve_away_and_halves_large_ones_once_more():
    model = on_meta("vgg8")
    with pytest.raises(ValueError, match=r"at least 8 pixels a side for VGG.* but got 7; set a resolution"):
        model(torch.zeros(1, 3, 7, 9, device="meta"))
    # The last block sees 4×4 positions of either size, everything before it four times as many.
    last = 512 * 512 * 9 * 4**2 + 512 * 100
    assert multiply_adds(model, 64) == 4 * multiply_adds(model, 32) - 3 * last


@pytest.mark.parametrize("name", FAMILIES)
def test_a_step_goes_downhill(name):
    torch.manual_seed(0)
    model = build_model(name, 5).train()
    side = 16 if "resnet" in name else 32  # The mobile ones are left with a single position at 16.
    images, labels = torch.randn(8, 3, side, side), torch.arange(8) % 5
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = cross_entropy(model(images), labels)
    before.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimiser.step()
    assert cross_entropy(model(images), labels) < before


@pytest.mark.parametrize("name", FAMILIES)
def test_pruned_folded_and_channels_last(name, as_if_trained):
    torch.manual_seed(0)
    probe = prune_teacher(as_if_trained(build_model(name, 10)), 0.3).double()
    example, images = torch.randn(2, 3, 16, 16).double(), torch.randn(2, 3, 16, 16).double()
    with torch.no_grad():
        expected = probe(images)
        result = fold_batch_norms(probe, example)
        # A norm before a block of a wide ResNet follows no convolution, or one whose output the shortcut takes too.
        folded = {"wrn16_1": 6, "wrn16_2": 7}.get(name, result.total)
        assert result.note == f"folded {folded} of {result.total} batch norms"
        close = {"rtol": 1e-9, "atol": 1e-9 * expected.abs().max().item()}
        torch.testing.assert_close(probe(images), expected, **close)
        probe.to(memory_format=torch.channels_last)
        torch.testing.assert_close(probe(images.to(memory_format=torch.channels_last)), expected, **close)


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("wrn16_2", {"block1": (32, 32, 32), "block2": (64, 16, 16), "block3": (128, 8, 8)}),
        (
            "vgg8",
            {
                **{"block1": (128, 16, 16), "block2": (256, 8, 8)},
                **{"block3": (512, 4, 4), "block4": (512, 4, 4)},
            },
        ),
        ("shufflenet_v1", {"layer1": (240, 16, 16), "layer2": (480, 8, 8), "layer3": (960, 4, 4)}),
        (
            "mobilenet_v2",
            {
                **{"blocks.1": (12, 16, 16), "blocks.2": (16, 8, 8)},
                **{"blocks.4": (48, 4, 4), "blocks.6": (160, 2, 2)},
            },
        ),
        (
            "mobilenet_v1",
            {
                **{"model.3": (128, 8, 8), "model.5": (256, 4, 4)},
                **{"model.11": (512, 2, 2), "model.13": (1024, 1, 1)},
            },
        ),
    ],
)
def test_stages_for_feature_methods(name, paths):
    """``feats[1:]`` of mdistiller's networks, which its attention transfer compares, after their ReLU."""
    found = stages(build_model(name, 5), torch.randn(2, 3, 32, 32))
    assert {stage.path: stage.shape for stage in found} == paths


PAIRS = [("cifar:vgg13", "vgg8"), ("cifar:vgg13", "mobilenet_v2"), ("cifar:resnet50", "vgg8")]
"""The standard pairs with a VGG."""


@pytest.mark.parametrize(("teacher", "student"), PAIRS)
def test_layers_of_a_vgg_are_those_of_mdistiller(teacher, student):
    """Attention: zip(feats[1:], feats[1:]), four pairs; FitNet: feats[2] (its ``HINT_LAYER``), block2 of a VGG."""
    middle = {"vgg": "block2", "mobilenet_v2": "blocks.2", "resnet50": "layer2"}
    found = [stages(build_model(name, 5), torch.randn(2, 3, 32, 32)) for name in (student, teacher)]
    attention = default_layers("at", *found)
    assert [len(side) for side in attention] == [4, 4]
    hint = [next(path for key, path in middle.items() if key in name) for name in (student, teacher)]
    assert [side[0].path for side in default_layers("fitnet", *found)] == hint


@pytest.mark.parametrize(
    ("name", "same"),
    [
        *((name, True) for name in ("resnet20", "vgg8", "cifar:resnet50", "shufflenet_v1", "mobilenet_v1")),
        *((name, False) for name in ("wrn16_2", "mobilenet_v2", "shufflenet_v2")),
    ],
)
def test_relations_are_of_what_enters_the_classifier_but_in_three_families(name, same):
    """``pooled_feat`` of mdistiller is the mean of our last stage, but where :func:`default_layers` says otherwise."""
    torch.manual_seed(0)
    model, entered = build_model(name, 5).eval(), []
    images = torch.randn(2, 3, 32, 32)
    last = default_layers("rkd", *2 * [stages(model, images)]).student[0].path
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    linear.register_forward_pre_hook(lambda layer, inputs: entered.append(inputs[0]))
    with FeatureTap(model, [last]) as tap, torch.no_grad():
        model(images)
    found = tap.take()[0].mean(dim=(2, 3))
    assert (found.shape == entered[0].shape and torch.allclose(found, entered[0])) is same
    family = {"wrn16_2": "wide ResNets", "mobilenet_v2": "MobileNetV2", "shufflenet_v2": "ShuffleNetV2"}.get(name)
    assert same or all(family in words for words in (" ".join(default_layers.__doc__.split()), METHODS["rkd"].differs))
