"""Augmented views of small images, a whole batch at once, each a pure function of its key."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from dlkd.data.view_key import view_key


@dataclass(frozen=True)
class CropFlip:
    """Zero-pad, crop back to size and mirror, by view key.

    Args:
        pad: pixels on each side.
        flip: mirror half of the views; wrong for digits and text.
        seed: of the view family.
    """

    pad: int = 4
    flip: bool = True
    seed: int = 0

    def __call__(self, images: Tensor, index: npt.ArrayLike, view: npt.ArrayLike) -> Tensor:
        """View number ``view`` of ``images`` ``[B, channels, H, W]``, whose sample numbers are ``index``."""
        height, width = images.shape[-2:]
        device = images.device

        def draw(stream: int, below: int) -> Tensor:
            # Multiply-shift maps 32 bits to [0, below) without the bias of a remainder.
            key = view_key(self.seed, index, view, stream).astype(np.uint64)
            drawn = ((key * np.uint64(below)) >> np.uint64(32)).astype(np.int64)
            return torch.from_numpy(drawn).to(device).expand(images.shape[0])

        rows = draw(0, 2 * self.pad + 1)[:, None] + torch.arange(height, device=device)
        columns = draw(1, 2 * self.pad + 1)[:, None] + torch.arange(width, device=device)
        if self.flip:
            columns = torch.where(draw(2, 2)[:, None].bool(), columns.flip(1), columns)
        padded = functional.pad(images, (self.pad,) * 4)
        batch = torch.arange(images.shape[0], device=device)[:, None, None]
        # Advanced indices around a slice put the channel axis last.
        return padded[batch, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
