"""Taps: what the layer returned, of whatever model and mode, and nothing left behind."""

import copy
import gc
import weakref

import pytest
import timm
import torch
from torch import nn

from dlkd.features import FeatureTap, feature_shapes, stages
from dlkd.features.tap import look
from dlkd.models import build_model
from dlkd.teacher import FrozenTeacher, fold_batch_norms


def sequential():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)),
    )


def vit():
    return timm.models.VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=10, embed_dim=32, depth=2, num_heads=2
    )


IMAGES = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_sequential_by_number():
    model = sequential().eval()
    tap = FeatureTap(model, ["2", "0"])
    with tap:
        logits = model(IMAGES)
    relu, conv = tap.take()
    assert torch.equal(conv, model[0](IMAGES)) and torch.equal(relu, model[:3](IMAGES))
    assert torch.equal(model[3:](relu), logits)
    relu.sum().backward()
    assert model[0].weight.grad.abs().sum() > 0 and model[-1].weight.grad is None


def test_resnet_and_vit_by_path():
    resnet = build_model("resnet20", 10, channels=1).eval()
    with FeatureTap(resnet, ["layer3"]) as tap:
        logits = resnet(IMAGES)
    assert torch.equal(resnet.fc(tap.take()[0].mean((2, 3))), logits)
    transformer = vit().eval()
    with FeatureTap(transformer, ["blocks.1"]) as tap:
        logits = transformer(IMAGES)
    (tokens,) = tap.take()
    assert tokens.shape == (4, 17, 32)
    assert torch.equal(transformer.forward_head(transformer.norm(tokens)), logits)


def test_unknown_path():
    model = build_model("resnet20", 10)
    with pytest.raises(ValueError, match=r"a layer of CifarResNet, but got 'layr3'; did you mean 'layer3' or .*named_"):
        FeatureTap(model, ["layer1", "layr3"])
    with pytest.raises(ValueError, match="expected a layer of CifarResNet, but got ''"):
        FeatureTap(model, [""])
    assert not any(m._forward_hooks for m in model.modules())


class Odd(nn.Module):
    """Returns what models return."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output(x)


def test_first_tensor_of_a_tuple_or_dict():
    x = torch.rand(2, 3)
    for output in (
        lambda x: (None, [x + 1, x]),
        lambda x: {"mask": x > 0, "hidden": x + 1},
        lambda x: (torch.arange(2), x + 1),
    ):
        model = nn.Sequential(Odd(output), Odd(lambda found: x))
        with FeatureTap(model, ["0"]) as tap:
            model(x)
        assert torch.equal(tap.take()[0], x + 1)
    for output, found in ((lambda x: "text", "str"), (lambda x: x[0], r"\[3\]")):
        model = nn.Sequential(Odd(output), Odd(lambda found: x))
        tap = FeatureTap(model, ["0"])
        with pytest.raises(ValueError, match=f"layer '0' to return .*{found}"), tap:
            model(x)


def test_channels_last_maps_are_turned():
    swin = nn.Sequential(Odd(lambda x: torch.arange(2 * 4 * 4 * 3.0).reshape(2, 4, 4, 3)))
    with FeatureTap(swin, ["0"]) as tap:
        out = swin(IMAGES)
    assert torch.equal(tap.take()[0], out.permute(0, 3, 1, 2))
    assert feature_shapes(swin, ["0"], IMAGES[:2]) == [(3, 4, 4)]


def test_the_latest_of_several_calls():
    model = sequential().eval()
    tap = FeatureTap(model, ["0"])
    with tap:
        model(IMAGES)
        model(1 - IMAGES)
    assert torch.equal(tap.take()[0], model[0](1 - IMAGES))


def test_nothing_is_kept():
    model = sequential()
    tap = FeatureTap(model, ["0"])
    model(IMAGES)  # closed
    with pytest.raises(ValueError, match="call its layer '0', but it did not"):
        tap.take()
    with tap:
        model(IMAGES)
    features = [weakref.ref(x) for x in tap.take()]
    gc.collect()
    assert features[0]() is None
    with pytest.raises(RuntimeError), tap:
        model(IMAGES)
        raise RuntimeError
    assert not tap._kept
    tap.remove()
    assert not any(m._forward_hooks for m in model.modules())


def test_hooks_are_in_no_state_dict_and_no_copy():
    model = sequential()
    names = list(model.state_dict())
    tap = FeatureTap(model, ["0", "2"])
    with tap:
        model(IMAGES)
        assert list(model.state_dict()) == names
        twin = copy.deepcopy(model)  # while non-leaf tensors are kept, which cannot be copied
        twin(1 - IMAGES)
    assert torch.equal(tap.take()[0], model[0](IMAGES))


def test_a_frozen_teacher_after_folding():
    model = build_model("resnet8", 10, channels=1).eval()
    tap = FeatureTap(model, ["layer2"])
    with tap:
        model(IMAGES)
    before = tap.take()[0]
    assert fold_batch_norms(model, IMAGES).folded == 9
    teacher = FrozenTeacher(model)
    with tap:
        teacher(IMAGES)
    (features,) = tap.take()
    assert features.is_inference()
    torch.testing.assert_close(features, before, rtol=1e-4, atol=1e-5)


def test_looking_changes_nothing():
    model = sequential()
    model[1].eval()
    state, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert feature_shapes(model, ["5", "0"], IMAGES) == [(8,), (8, 8, 8)]
    look(nn.Dropout(0.5), IMAGES)
    assert [m.training for m in model] == [True, False, True, True, True, True, True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())


def test_compiled():
    model = sequential().eval()
    tap = FeatureTap(model, ["0"])
    compiled = torch.compile(model, backend="eager")
    for images in (IMAGES, 1 - IMAGES):
        with tap:
            compiled(images)
        torch.testing.assert_close(tap.take()[0], model[0](images))
    compiled(IMAGES)
    assert not tap._kept


WIDE = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(2))


def tapped(model, path, images=WIDE):
    with FeatureTap(model, [path]) as tap:
        out = model(images)
    return tap.take()[0], out


def test_maps_of_images_that_are_not_square():
    """The sides of a map are those of the image but for a stride; its channels may be as many as one side."""
    for channels in (3, 16, 32, 64):
        model = nn.Sequential(nn.Conv2d(3, channels, 3, stride=2, padding=1), nn.ReLU())
        for path in ("0", "1"):
            kept, out = tapped(model, path)
            assert kept.shape == (2, channels, 16, 32)
        assert torch.equal(kept, out) and feature_shapes(model, ["0", "1"], WIDE) == [(channels, 16, 32)] * 2
    for channels in (3, 16, 96):
        model = nn.Sequential(Odd(lambda x, c=channels: torch.rand(2, 16, 32, c)))
        kept, out = tapped(model, "0")
        assert torch.equal(kept, out.permute(0, 3, 1, 2))
    pooled, _ = tapped(nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1)), "1")
    assert pooled.shape == (2, 2, 1, 1)


def test_sides_that_are_rounded_either_way():
    images = torch.rand(2, 3, 30, 50)
    for model in (
        nn.Sequential(nn.Conv2d(3, 4, 7, stride=4, padding=3)),  # 8 × 13
        nn.Sequential(nn.Conv2d(3, 7, 4, stride=4)),  # 7 × 12, of 7 channels
        nn.Sequential(nn.MaxPool2d(4)),
    ):
        kept, out = tapped(model, "0", images)
        assert torch.equal(kept, out)


def test_where_both_may_be_the_sides_the_layer_says_its_channels():
    first = nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), nn.BatchNorm2d(8), nn.ReLU())  # [8, 16, 32] of 32 × 64
    block = nn.Sequential(first)
    for model, path in ((first, "0"), (first, "1"), (block, "0")):
        assert tapped(model, path)[0].shape == (2, 8, 16, 32)
    last = nn.Sequential(Odd(lambda x: torch.rand(2, 8, 16, 7)), nn.Linear(7, 32))
    assert tapped(last, "1")[0].shape == (2, 32, 8, 16)
    with pytest.raises(ValueError, match=r"layer '2' to return a map whose .* got \[2, 8, 16, 32\]") as error:
        tapped(first, "2")
    assert "\n" not in str(error.value)
    for channels in (16, 32):  # as many as the map is wide, or so many that it could stand for the width
        bare = nn.Sequential(Odd(lambda x, c=channels: torch.rand(2, 8, 16, c)))
        bare.output_fmt = "NHWC"
        assert tapped(bare, "0")[0].shape == (2, channels, 8, 16)
        assert feature_shapes(bare, ["0"], WIDE) == [(channels, 8, 16)]


def test_swin_of_images_that_are_not_square():
    swin = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=(32, 64), window_size=2, embed_dim=8, depths=(1, 1), num_heads=(1, 1)
    ).eval()
    found = stages(swin, WIDE)
    assert [stage.shape for stage in found] == [(8, 8, 16), (16, 4, 8)]
    assert feature_shapes(swin, [stage.path for stage in found], WIDE) == [(8, 8, 16), (16, 4, 8)]
    found = stages(build_model("resnet8", 10), torch.rand(2, 3, 16, 48))
    assert [stage.shape for stage in found] == [(16, 16, 48), (32, 8, 24), (64, 4, 12)]
