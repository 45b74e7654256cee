"""The small residual networks of the CIFAR literature (He et al. 2016, section 4.2).

Widths 16-32-64, or 32-64-128-256 stem and stages for the wide ones of the distillation literature
(``resnet8x4``, ``resnet32x4``). ``resnet8x0.5`` is ours, a student for tiny images: half of
``resnet8``, but with no layer narrower than 8. Shortcuts are 1×1 convolutions. Parameter names are
those of the public ``pytorch-cifar-models`` weights, which therefore load as they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dlkd.models.layers import initialise

CIFAR_RESNETS: dict[str, tuple[int, tuple[int, int, int, int]]] = {
    "resnet8x0.5": (8, (8, 8, 16, 32)),
    **{f"resnet{depth}": (depth, (16, 16, 32, 64)) for depth in (8, 14, 20, 32, 44, 56, 110)},
    **{f"resnet{depth}x4": (depth, (32, 64, 128, 256)) for depth in (8, 32)},
}
"""Name → depth and the widths of stem and stages."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + shortcut)


class CifarResNet(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``; depth is 6n + 2."""

    def __init__(self, depth: int, widths: Sequence[int], num_classes: int, channels: int = 3) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"expected a depth of 6n + 2 with n of at least 1, but got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = _stage(widths[0], widths[1], blocks, 1)
        self.layer2 = _stage(widths[1], widths[2], blocks, 2)
        self.layer3 = _stage(widths[2], widths[3], blocks, 2)
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, width, stride)
    return nn.Sequential(first, *(BasicBlock(width, width, 1) for _ in range(blocks - 1)))


def cifar_resnet(name: str, num_classes: int, channels: int = 3) -> CifarResNet:
    """Build a CIFAR ResNet by name, with random weights.

    Raises:
        ValueError: the name is not one of :data:`CIFAR_RESNETS`; the message names the nearest.
    """
    if name not in CIFAR_RESNETS:
        near = difflib.get_close_matches(name, CIFAR_RESNETS, n=1, cutoff=0)[0]
        raise ValueError(
            f"expected a model out of {', '.join(CIFAR_RESNETS)}, but got {name!r}; did you mean {near!r}?"
        )
    depth, widths = CIFAR_RESNETS[name]
    return CifarResNet(depth, widths, num_classes, channels)
