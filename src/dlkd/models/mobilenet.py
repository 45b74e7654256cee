"""MobileNetV1 for ImageNet (Howard et al. 2017) and half of MobileNetV2 for CIFAR (Sandler et al. 2018).

Both with ReLU, not ReLU6, as in the distillation literature; parameter names are those of the public
RepDistiller and mdistiller weights. (timm's ``mobilenetv1_100`` has ReLU6 and other names.)
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from dlkd.models.layers import conv_bn_relu, initialise

V1_LAYERS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)
"""Width and stride of each separable convolution."""
V2_STAGES = (
    *((1, 8, 1, 1), (6, 12, 2, 1), (6, 16, 3, 2), (6, 32, 4, 2)),
    *((6, 48, 3, 1), (6, 80, 3, 2), (6, 160, 1, 1)),
)
"""Expansion, width, blocks and first stride of each stage: half the widths of the paper, and one stride less."""
V2_LAST = 1280


class MobileNetV1(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``; made for 224 pixels a side."""

    feature_info: ClassVar = [{"module": f"model.{k}"} for k in (3, 5, 11, 13)]

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        layers = [nn.Sequential(*conv_bn_relu(channels, 32, 3, 2))]
        inputs = 32
        for width, stride in V1_LAYERS:
            depthwise = conv_bn_relu(inputs, inputs, 3, stride, groups=inputs)
            layers.append(nn.Sequential(*depthwise, *conv_bn_relu(inputs, width, 1)))
            inputs = width
        self.model = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.model(x).mean(dim=(2, 3)))
        return logits


class InvertedResidual(nn.Module):
    """1×1 that widens, depthwise 3×3, 1×1 that narrows and has no ReLU; a shortcut where the shapes agree."""

    def __init__(self, inputs: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.shortcut = stride == 1 and inputs == width
        self.conv = nn.Sequential(
            *conv_bn_relu(inputs, middle, 1),
            *conv_bn_relu(middle, middle, 3, stride, groups=middle),
            nn.Conv2d(middle, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.shortcut else out


class MobileNetV2(nn.Module):
    """Images ``[B, channels, H, W]`` → logits ``[B, num_classes]``; made for 32 pixels a side."""

    feature_info: ClassVar = [{"module": f"blocks.{k}"} for k in (1, 2, 4, 6)]

    def __init__(self, num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv_bn_relu(channels, 16, 3, 2))
        inputs = 16
        stages = []
        for expansion, width, blocks, stride in V2_STAGES:
            first = InvertedResidual(inputs, width, stride, expansion)
            others = (InvertedResidual(width, width, 1, expansion) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *others))
            inputs = width
        self.blocks = nn.Sequential(*stages)
        self.conv2 = nn.Sequential(*conv_bn_relu(inputs, V2_LAST, 1))
        self.classifier = nn.Sequential(nn.Linear(V2_LAST, num_classes))
        initialise(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.blocks(self.conv1(x)))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
