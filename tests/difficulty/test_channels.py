"""A probe without some channels: smaller, the same classes, the teacher untouched."""

import copy
import json

import pytest
import torch
from torch import nn

from dlkd.difficulty import ProbeSpec, prune_channels
from dlkd.models import build_model, state_hash

pytest.importorskip("torch_pruning")


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", ["resnet8", "vgg8", "mobilenet_v2"])
def test_a_smaller_network_of_the_same_classes(name, scope):
    torch.manual_seed(0)
    teacher, images = build_model(name, 7).eval(), torch.rand(3, 3, 32, 32)
    before = state_hash(teacher.state_dict())
    probe = prune_channels(teacher, 0.3, scope, images)
    assert probe(images).shape == (3, 7) and not any(m.training for m in probe.modules())
    assert not any(p.requires_grad for p in probe.parameters())
    assert 0.2 < parameters(probe) / parameters(teacher) < 0.9
    assert state_hash(teacher.state_dict()) == before and all(p.requires_grad for p in teacher.parameters())


def test_the_smallest_channels_go():
    """Two layers by hand: channel 1 of four has the smallest weights, and the function without it is known."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(2, 4, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 5)).eval()
    with torch.no_grad():
        teacher[0].weight[1] *= 1e-3
        teacher[3].weight[:, 1] *= 1e-3
    x = torch.rand(5, 2, 1, 1)
    without = copy.deepcopy(teacher)
    with torch.no_grad():
        without[0].weight[1] = 0
    probe = prune_channels(teacher, 0.25, "layer", x)
    assert probe[0].out_channels == 3 and probe[3].in_features == 3
    torch.testing.assert_close(probe(x), without(x), rtol=1e-5, atol=1e-6)


def test_as_a_spec():
    teacher, images = build_model("resnet8", 5).eval(), torch.rand(4, 3, 32, 32)
    spec = ProbeSpec(0.2, "layer", "channels")
    assert spec.name == "layer-0.2-channels" and spec.needs_images
    assert parameters(spec.make(teacher, [images])) < parameters(teacher)
    with pytest.raises(ValueError, match=r"to make the probe layer-0\.2-channels with"):
        spec.make(teacher)


@pytest.mark.parametrize("name", ["shufflenet_v2", "timm:test_vit"])
def test_models_that_cannot_be_pruned(name):
    side = 160 if name.startswith("timm") else 32
    x = torch.rand(2, 3, side, side)
    with pytest.raises(ValueError, match="could not take channels out of") as error:
        prune_channels(build_model(name, 4).eval(), 0.5, "layer", x)
    assert "\n" not in str(error.value)


def test_sparsity_out_of_range():
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        prune_channels(nn.Linear(2, 2), 1.0, "layer", torch.rand(1, 2))


def test_a_run_with_such_a_probe(good, distill, tmp_path):
    probe = ("--probe.criterion", "channels", "--probe.sparsity", 0.1, "--probe.scope", "layer")
    good(*distill(tmp_path / "run", *probe, "--force", "--epochs", 1))
    card = json.loads((tmp_path / "run" / "run.json").read_text())
    assert card["teacher"]["probe_names"] == ["layer-0.1-channels"]
