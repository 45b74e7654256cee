"""Our own architectures by name: the networks of the standard teacher-student pairs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from dlkd.models.cifar import CIFAR_RESNETS, cifar_resnet
from dlkd.models.four_stage import Bottleneck, FourStageResNet, PlainBlock
from dlkd.models.mobilenet import MobileNetV1, MobileNetV2
from dlkd.models.shufflenet import ShuffleNetV1, ShuffleNetV2
from dlkd.models.vgg import VGG, VGG_REPEATS
from dlkd.models.wide import WideResNet

Builder = Callable[[int, int], nn.Module]
"""From the number of classes and of channels to a model with random weights."""

CIFAR_MODELS: dict[str, Builder] = {
    **{name: partial(cifar_resnet, name) for name in CIFAR_RESNETS},
    "resnet18": partial(FourStageResNet, PlainBlock, (2, 2, 2, 2)),
    "resnet50": partial(FourStageResNet, Bottleneck, (3, 4, 6, 3)),
    **{f"wrn{depth}_{factor}": partial(WideResNet, depth, factor) for depth in (16, 40) for factor in (1, 2)},
    **{f"vgg{depth}": partial(VGG, repeats) for depth, repeats in VGG_REPEATS.items()},
    "shufflenet_v1": ShuffleNetV1,
    "shufflenet_v2": ShuffleNetV2,
    "mobilenet_v2": MobileNetV2,
}
"""Networks for images of about 32 pixels a side; ``cifar:NAME`` names each of them."""

IMAGENET_MODELS: dict[str, Builder] = {"mobilenet_v1": MobileNetV1}
"""Networks for images of 224 pixels a side that neither timm nor torchvision has."""

TIMM_TOO = frozenset({"resnet18", "resnet50", "vgg11", "vgg13", "vgg16", "vgg19"})
"""Names of :data:`CIFAR_MODELS` that without the prefix ``cifar:`` are timm's networks for ImageNet."""

OWN_NAMES = [*(f"cifar:{name}" if name in TIMM_TOO else name for name in CIFAR_MODELS), *IMAGENET_MODELS]
"""How each of ours is addressed."""
