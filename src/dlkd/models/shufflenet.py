"""ShuffleNet V1 (Zhang et al. 2018) and V2 (Ma et al. 2018) for CIFAR, as in the distillation literature.

The stem is a 1×1 convolution of stride 1 without pooling. Parameter names are those of the public
RepDistiller and mdistiller weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, channel_shuffle

STEM = 24
V1_GROUPS = 3
V1_STAGES = ((240, 4), (480, 8), (960, 4))
"""Width and blocks of each stage: three groups, 1×."""
V2_STAGES = ((116, 4), (232, 8), (464, 4))
"""Width and blocks of each stage: 1×."""
V2_LAST = 1024


class GroupedBlock(nn.Module):
    """V1: grouped 1×1, shuffle, depthwise 3×3, grouped 1×1, and a shortcut: added, or beside it at stride 2."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width - inputs if stride == 2 else width
        middle = outputs // 4
        self.stride = stride
        # The 24 channels of the stem are too few to be split.
        self.groups = 1 if inputs == STEM else V1_GROUPS
        self.conv1 = nn.Conv2d(inputs, middle, 1, groups=self.groups, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, groups=V1_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        out = channel_shuffle(torch.relu(self.bn1(self.conv1(x))), self.groups)
        # A ReLU after the depthwise convolution is not in the paper, but in the public code.
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return torch.relu(torch.cat([out, avg_pool2d(x, 3, 2, 1)], dim=1) if self.stride == 2 else out + x)


class SplitBlock(nn.Module):
    """V2, stride 1: half of the channels pass, the others go through 1×1, depthwise 3×3 and 1×1; shuffle."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        passing, out = x.chunk(2, dim=1)
        out = torch.relu(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out = torch.relu(self.bn3(self.conv3(out)))
        return channel_shuffle(torch.cat([passing, out], dim=1), 2)


class DownBlock(nn.Module):
    """V2, stride 2: two branches see all channels, each gives half of the width; shuffle."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        short = torch.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        out = torch.relu(self.bn3(self.conv3(x)))
        out = torch.relu(self.bn5(self.conv5(self.bn4(self.conv4(out)))))
        return channel_shuffle(torch.cat([short, out], dim=1), 2)


class ShuffleNetV1(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``."""

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _grouped_stage(STEM, *V1_STAGES[0])
        self.layer2 = _grouped_stage(V1_STAGES[0][0], *V1_STAGES[1])
        self.layer3 = _grouped_stage(V1_STAGES[1][0], *V1_STAGES[2])
        self.linear = nn.Linear(V1_STAGES[2][0], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


class ShuffleNetV2(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``."""

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _split_stage(STEM, *V2_STAGES[0])
        self.layer2 = _split_stage(V2_STAGES[0][0], *V2_STAGES[1])
        self.layer3 = _split_stage(V2_STAGES[1][0], *V2_STAGES[2])
        self.conv2 = nn.Conv2d(V2_STAGES[2][0], V2_LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(V2_LAST)
        self.linear = nn.Linear(V2_LAST, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


def _grouped_stage(inputs: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(GroupedBlock(inputs, width, 2), *(GroupedBlock(width, width, 1) for _ in range(blocks - 1)))


def _split_stage(inputs: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(DownBlock(inputs, width), *(SplitBlock(width) for _ in range(blocks - 1)))
