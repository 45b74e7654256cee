"""Wide ResNets for CIFAR (Zagoruyko & Komodakis 2016), as in the pairs of the distillation literature.

Parameter names are those of the public RepDistiller and mdistiller weights, which therefore load as they are.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from dlkd.models.layers import initialise


class Sum(nn.Module):
    """x + y as a layer: who watches layers, as folding does, sees that the shortcut takes a tensor too."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class PreActivationBlock(nn.Module):
    """Norm, ReLU and 3×3 convolution, twice, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        # The name in the public weights.
        self.convShortcut = None if inputs == width else nn.Conv2d(inputs, width, 1, stride, bias=False)
        self.sum = Sum()

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        out: Tensor = self.sum(self.conv2(torch.relu(self.bn2(self.conv1(active)))), shortcut)
        return out


class Stage(nn.Module):
    """Blocks of one width; the first has the stride."""

    def __init__(self, inputs: int, width: int, blocks: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(inputs, width, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``; depth is 6n + 4, widths 16k-32k-64k.

    Raises:
        ValueError: another depth, or a factor k below 1.
    """

    feature_info: ClassVar = [{"module": f"block{k}"} for k in (1, 2, 3)]

    def __init__(self, depth: int, factor: int, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or factor < 1:
            raise ValueError(
                "expected a depth of 6n + 4 with n of at least 1 and a factor of at least 1, "
                f"but got {depth} and {factor}"
            )
        blocks = (depth - 4) // 6
        widths = [16 * factor, 32 * factor, 64 * factor]
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(16, widths[0], blocks, 1)
        self.block2 = Stage(widths[0], widths[1], blocks, 2)
        self.block3 = Stage(widths[1], widths[2], blocks, 2)
        self.bn1 = nn.BatchNorm2d(widths[2])
        self.fc = nn.Linear(widths[2], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        logits: Tensor = self.fc(torch.relu(self.bn1(x)).mean(dim=(2, 3)))
        return logits
