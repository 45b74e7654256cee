"""Cutout and random erasing, of a whole batch at once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from dlkd.data.samples import Indices
from dlkd.data.view_key import Stream, draw_integer, draw_uniform
from dlkd.errors import UserError

EraseKind = Literal["none", "cutout", "random_erasing"]
EraseFill = Literal["zero", "mean"]
_AREA, _RATIO = (0.02, 1 / 3), 3.3


@dataclass(frozen=True)
class Erase:
    """Fill a box with one colour.

    - ``cutout``: a square of ``size`` times the shorter side, its centre anywhere in the image, cut at the edge
      (DeVries and Taylor 2017; a quarter of 32 pixels is the usual 8).
    - ``random_erasing``: a box of 2 to 33 % of the area with sides of ratio 0.3 to 3.3, inside the image
      (Zhong et al. 2020).

    Args:
        kind: see above.
        size: of the square, as a share of the shorter side.
        probability: of a view to lose anything.
        fill: ``zero``, the darkest value, or the ``mean`` of each channel of the image itself.
    """

    kind: EraseKind = "cutout"
    size: float = 0.25
    probability: float = 1.0
    fill: EraseFill = "zero"

    def __post_init__(self) -> None:
        if self.kind not in get_args(EraseKind):
            raise UserError(f"expected erase to be one of {', '.join(get_args(EraseKind))}, but got {self.kind!r}")
        if self.fill not in get_args(EraseFill):
            raise UserError(f"expected the fill of erasing to be zero or mean, but got {self.fill!r}")
        if not 0 < self.size <= 1 or not 0 <= self.probability <= 1:
            raise UserError(
                f"expected the size and the probability of erasing to be shares, but got {self.size} and "
                f"{self.probability}"
            )

    def __call__(self, images: Tensor, seed: int, ids: Indices, views: Indices) -> Tensor:
        """``images`` ``[B, channels, H, W]``, fp32 in [0, 1], each with its box filled."""
        height, width = images.shape[-2:]
        if self.kind == "none":
            return images
        if self.kind == "cutout":
            side = np.full(len(ids), max(1, round(self.size * min(height, width))))
            rows = _span(draw_integer(height, seed, ids, views, Stream.ERASE_ROW) - side // 2, side, height)
            columns = _span(draw_integer(width, seed, ids, views, Stream.ERASE_COLUMN) - side // 2, side, width)
        else:
            area = (
                height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * draw_uniform(seed, ids, views, Stream.ERASE_AREA))
            )
            ratio = _RATIO ** (2 * draw_uniform(seed, ids, views, Stream.ERASE_RATIO) - 1)
            tall = np.sqrt(area * ratio).round().clip(1, height).astype(np.int64)
            wide = np.sqrt(area / ratio).round().clip(1, width).astype(np.int64)
            free_rows = draw_uniform(seed, ids, views, Stream.ERASE_ROW) * (height - tall + 1)
            free_columns = draw_uniform(seed, ids, views, Stream.ERASE_COLUMN) * (width - wide + 1)
            rows = _span(free_rows.astype(np.int64), tall, height)
            columns = _span(free_columns.astype(np.int64), wide, width)
        erased = draw_uniform(seed, ids, views, Stream.ERASE) < self.probability
        box = torch.from_numpy(rows[:, :, None] & columns[:, None, :] & erased[:, None, None]).to(images.device)
        if self.fill == "zero":
            return images.masked_fill(box[:, None], 0)
        # Pixels are k/255, and a sum of whole numbers is the same in any order and on any device.
        total = (images * 255).round().long().sum(dim=(2, 3), keepdim=True)
        return torch.where(box[:, None], total.float() / (255 * height * width), images)

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers."""
        used = asdict(self)
        if self.fill == "zero":  # families of before there was a choice keep their names
            del used["fill"]
        return used


def _span(start: Indices, count: Indices, length: int) -> np.ndarray:
    """Which of ``length`` pixels lie in ``count`` pixels from ``start``: ``[B, length]``."""
    at = np.arange(length)
    return np.asarray((at >= start[:, None]) & (at < (start + count)[:, None]))
