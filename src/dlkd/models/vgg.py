"""VGG for CIFAR (Simonyan & Zisserman 2015) as in the distillation literature: batch norms, one linear layer.

The nets of 11, 13, 16 and 19 layers are configurations A, B, D and E of the paper; ``vgg8`` has one
convolution a block. Instead of the last pooling there is a mean over all positions, and side 32 has no
fourth pooling. Parameter names are those of the public RepDistiller and mdistiller weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from dlkd.models.layers import initialise

VGG_REPEATS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers with weights → convolutions in each of the five blocks."""
WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Images ``[B, channels, H, W]`` of at least 8 pixels a side → logits ``[B, num_classes]``.

    Args:
        repeats: convolutions in each of the five blocks.
    """

    # As mdistiller's attention transfer: not block0, so that there are four stages as in other networks.
    feature_info: ClassVar = [{"module": f"block{k}"} for k in range(1, 5)]

    def __init__(self, repeats: Sequence[int], num_classes: int, channels: int = 3) -> None:
        super().__init__()
        self.block0 = _block(channels, WIDTHS[0], repeats[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], repeats[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], repeats[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], repeats[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], repeats[4])
        self.classifier = nn.Linear(WIDTHS[4], num_classes)
        initialise(self, linear_std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        side = min(x.shape[-2:])
        if side < 8:
            raise ValueError(
                f"expected images of at least 8 pixels a side for VGG, which halves them three times, but got {side}; "
                "set a resolution"
            )
        for block in (self.block0, self.block1, self.block2):
            x = max_pool2d(block(x), 2)
        x = self.block3(x)
        # Tiny-ImageNet's 64 pixels come down to the same 4 before the last block.
        x = self.block4(max_pool2d(x, 2) if side >= 64 else x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _block(inputs: int, width: int, repeats: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k in range(repeats):
        # With a bias, which the norm makes idle: the public weights have it.
        conv = nn.Conv2d(width if k else inputs, width, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)
