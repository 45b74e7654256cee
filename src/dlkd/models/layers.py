"""What several architectures are made of, and how their weights begin."""

from __future__ import annotations

from torch import nn


def conv_bn_relu(inputs: int, width: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias that keeps the side (but for its stride), its batch norm, a ReLU."""
    conv = nn.Conv2d(inputs, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(width), nn.ReLU()]


def initialise(model: nn.Module, *, linear_std: float | None = None) -> None:
    """He et al.'s (2015) normal weights over the fan-out for every convolution; its bias 0.

    Args:
        linear_std: of the normal weights of linear layers, whose bias is then 0; ``None`` leaves them as PyTorch does.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif linear_std is not None and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, linear_std)
            nn.init.zeros_(module.bias)
