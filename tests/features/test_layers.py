"""The layers that teach where the user names none."""

import pytest
import timm
import torch
from torch import nn

from dlkd.features import Stage, default_layers, stages
from dlkd.models import build_model

IMAGES = torch.rand(2, 3, 32, 32)


def paths(found):
    return [stage.path for stage in found]


def test_resnets():
    assert stages(build_model("resnet20", 10), IMAGES) == [
        Stage("layer1", (16, 32, 32)),
        Stage("layer2", (32, 16, 16)),
        Stage("layer3", (64, 8, 8)),
    ]
    assert paths(stages(build_model("torchvision:resnet18", 10), IMAGES)) == ["layer1", "layer2", "layer3", "layer4"]


@pytest.mark.parametrize(
    ("name", "last", "number"),
    [
        ("vit_tiny_patch16_224", Stage("blocks.11", (5, 192)), 12),
        ("resnet18", Stage("layer4", (512, 1, 1)), 4),
        ("convnext_atto", Stage("stages.3", (320, 1, 1)), 4),
    ],
)
def test_timm(name, last, number):
    options = {"img_size": 32} if name.startswith("vit") else {}
    found = stages(timm.create_model(name, num_classes=10, **options), IMAGES)
    assert found[-1] == last and len(found) == number


def test_timm_with_channels_last():
    swin = timm.models.SwinTransformer(img_size=32, patch_size=2, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 2))  # fmt: skip # noqa: E501
    assert stages(swin, IMAGES) == [Stage("layers.0", (16, 16, 16)), Stage("layers.1", (32, 8, 8))]


def test_sequential_is_taken_before_its_pooling():
    layers = (nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    assert stages(nn.Sequential(*layers), IMAGES) == [Stage("1", (8, 30, 30))]


class Wrapper(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return {"loss": None, "logits": self.net(x)}


def test_without_positions_the_last_layer_before_the_logits():
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(3072, 16), nn.ReLU(), nn.Linear(16, 10), nn.Identity())
    assert stages(mlp, IMAGES) == [Stage("2", (16,))]
    assert stages(Wrapper(mlp), IMAGES) == [Stage("net.2", (16,))]
    with pytest.raises(ValueError, match="inner layer before its logits"):
        stages(nn.Linear(32, 10), torch.rand(2, 32))


def test_published_choice():
    three = [Stage(f"layer{k}", (16 * k, 8, 8)) for k in (1, 2, 3)]
    four = [Stage(f"stages.{k}", (16, 8, 8)) for k in range(4)]
    small = [*four[:3], Stage("stages.3", (16, 1, 1))]
    assert [paths(p) for p in default_layers("fitnet", three, four)] == [["layer2"], ["stages.1"]]
    assert [paths(p) for p in default_layers("at", three, three)] == [["layer1", "layer2", "layer3"]] * 2
    assert [paths(p) for p in default_layers("at", three, four)] == [["layer3"], ["stages.3"]]
    assert [paths(p) for p in default_layers("at", three, small)] == [paths(three), paths(small)[:3]]
    assert [paths(p) for p in default_layers("rkd", three, small)] == [["layer3"], ["stages.3"]]
    with pytest.raises(ValueError, match="the teacher with several positions"):
        default_layers("at", three, small[3:])
