"""What a model wants to see: every image here is in [0, 1] until the model's own format is applied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

MAX_SIDE = 1 << 13
"""A batch of larger images fits into no memory."""


@dataclass(frozen=True)
class InputFormat:
    """From canonical images ``[B, channels, H, W]`` in [0, 1] to the input of one model.

    Args:
        mean, std: per channel, subtracted and divided; both ``None`` leaves the values as they are.
        resolution: input side in pixels; images with another side are resized. ``None``: as they are.

    Raises:
        ValueError: one of mean and std without the other, of different lengths, not finite, a std
            that is not positive, or a resolution below 1.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        if self.resolution is not None and self.resolution < 1:
            raise ValueError(f"expected a resolution of at least 1 pixel, but got {self.resolution}")
        if self.resolution is not None and self.resolution > MAX_SIDE:
            raise ValueError(f"expected a resolution of at most {MAX_SIDE} pixels, but got {self.resolution}")
        if self.mean is None and self.std is None:
            return
        if self.mean is None or self.std is None:
            raise ValueError("expected mean and std together, or neither")
        # Lists come from JSON and the command line; a frozen value is hashable only with tuples.
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "std", tuple(float(v) for v in self.std))
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"expected as many means as stds, one per channel, but got {self.mean} and {self.std}")
        if not all(math.isfinite(v) for v in self.mean):
            raise ValueError(f"expected finite means, but got {self.mean}")
        if not all(0 < v < math.inf for v in self.std):
            raise ValueError(f"expected positive finite stds, but got {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` in [0, 1] → ``[B, channels, H', W']``, device and dtype kept.

        Raises:
            ValueError: not four dimensions, not floats, or another number of channels than of means.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                "expected images [B, channels, H, W] as floats in [0, 1], "
                f"but got {list(images.shape)} of {images.dtype}"
            )
        x = images
        if self.resolution is not None and x.shape[-2:] != (self.resolution, self.resolution):
            x = functional.interpolate(x, size=(self.resolution,) * 2, mode="bilinear", antialias=True)
        if self.mean is None or self.std is None:
            return x
        if x.shape[1] != len(self.mean):
            raise ValueError(
                f"expected images with {len(self.mean)} channels, as many as the means of the input format, "
                f"but got {x.shape[1]}; give mean and std one value per channel"
            )
        return (x - _column(self.mean, x.device, x.dtype)) / _column(self.std, x.device, x.dtype)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; :meth:`from_dict` reads them."""
        return {
            "mean": None if self.mean is None else list(self.mean),
            "std": None if self.std is None else list(self.std),
            "resolution": self.resolution,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> InputFormat:
        """Undo :meth:`to_dict`.

        Raises:
            ValueError: an unknown key, or a value of the wrong kind.
        """
        unknown = sorted(values.keys() - {"mean", "std", "resolution"})
        if unknown:
            raise ValueError(f"expected an input format of mean, std and resolution, but got {', '.join(unknown)} too")
        resolution = values.get("resolution")
        if resolution is not None and (isinstance(resolution, bool) or not isinstance(resolution, int)):
            raise ValueError(f"expected the resolution to be a whole number or null, but got {resolution!r}")
        return cls(_numbers("mean", values.get("mean")), _numbers("std", values.get("std")), resolution)


def _numbers(key: str, value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, Sequence) or not all(isinstance(v, (int, float)) for v in value):
        raise ValueError(f"expected {key} to be a list of numbers or null, but got {value!r}")
    return tuple(cast("Sequence[float]", value))


@lru_cache(maxsize=64)
def _column(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # A frozen teacher calls in inference mode, a student under autograd, which refuses to save
    # inference tensors: the cached one must be an ordinary tensor whoever comes first.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device, dtype=dtype).view(1, -1, 1, 1)
