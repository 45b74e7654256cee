"""Small data sets held in memory, and their split by seed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class ImageArrays(NamedTuple):
    """Images and labels in memory."""

    images: Tensor
    """``[N, channels, H, W]``, fp32 in [0, 1]."""
    labels: Tensor
    """``[N]``, int64."""

    def take(self, index: npt.NDArray[np.int64]) -> ImageArrays:
        """The chosen samples, in the order of ``index``."""
        chosen = torch.from_numpy(index)
        return ImageArrays(self.images[chosen], self.labels[chosen])


def digits() -> ImageArrays:
    """The 1,797 handwritten digits that scikit-learn carries: 8×8, one channel, ten classes."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images.astype(np.float32) / 16).unsqueeze(1)
    return ImageArrays(images, torch.from_numpy(bunch.target.astype(np.int64)))


def stratified_split(
    labels: npt.ArrayLike, share: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted indices of the rest and of a seeded held-out part with round(share·n) of each class."""
    if not 0 <= share <= 1:
        raise ValueError(f"expected the held-out share to be in [0, 1], but got {share}")
    y = np.asarray(labels)
    random = np.random.default_rng(seed)
    held = np.zeros(y.size, bool)
    for c in np.unique(y):
        members = np.flatnonzero(y == c)
        held[random.choice(members, round(share * members.size), replace=False)] = True
    return np.flatnonzero(~held), np.flatnonzero(held)
