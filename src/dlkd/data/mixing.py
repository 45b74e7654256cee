"""Mixup and cutmix in pairs: both members share λ and box, and mix with each other, never with the batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from dlkd.data.samples import Indices
from dlkd.data.view_key import Stream, draw_integer, draw_uniform
from dlkd.errors import UserError

MixingKind = Literal["none", "mixup", "cutmix"]


@dataclass(frozen=True)
class Mixing:
    """How two images become two mixed ones.

    - ``mixup``: x_a ← λ·x_a + (1 − λ)·x_b and the other way round (Zhang et al. 2018).
    - ``cutmix``: the pair swaps a box of 1 − λ of the area; λ is then the share left (Yun et al. 2019).

    λ ~ Beta(α, α), drawn by inversion from the key of the pair (its smaller sample number).
    """

    kind: MixingKind = "none"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(MixingKind):
            raise UserError(f"expected mixing to be one of {list(get_args(MixingKind))}, but got {self.kind!r}")
        if not 0 < self.alpha < float("inf"):
            raise UserError(f"expected the mixing alpha to be positive, but got {self.alpha}")

    def __call__(
        self, images: Tensor, other: Tensor, seed: int, pair: Indices, views: Indices
    ) -> tuple[Tensor, Tensor]:
        """Mix ``images`` with their partners ``other``, both ``[B, channels, H, W]`` fp32.

        Returns:
            The mixed images, and on the CPU λ ``[B]``, the share of each image's own label.
        """
        drawn = betaincinv(self.alpha, self.alpha, draw_uniform(seed, pair, views, Stream.MIX))
        if self.kind == "mixup":
            own = torch.from_numpy(drawn).float()
            return torch.lerp(other, images, own.to(images.device)[:, None, None, None]), own
        height, width = images.shape[-2:]
        side = np.sqrt(1 - drawn)
        inside_rows = _interval(side, height, draw_integer(height, seed, pair, views, Stream.BOX_ROW))
        inside_columns = _interval(side, width, draw_integer(width, seed, pair, views, Stream.BOX_COLUMN))
        box = torch.from_numpy(inside_rows[:, :, None] & inside_columns[:, None, :]).to(images.device)
        area = inside_rows.sum(axis=1) * inside_columns.sum(axis=1)
        own = torch.from_numpy(1 - area / (height * width)).float()
        return torch.where(box[:, None], other, images), own

    def describe(self) -> dict[str, object]:
        """What the hash of the view family covers."""
        return {"kind": "none"} if self.kind == "none" else asdict(self)


def _interval(side: np.ndarray, length: int, centre: Indices) -> np.ndarray:
    """Which of ``length`` pixels lie in the box: ``[B, length]``; the box is cut at the edge."""
    half = np.floor(side * length / 2).astype(np.int64)
    at = np.arange(length)
    return np.asarray((at >= (centre - half)[:, None]) & (at < (centre + half)[:, None]))
