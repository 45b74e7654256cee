"""A view family: every augmented view of a training set, each named by (sample, view number)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dlkd.data.augment import CropFlip, ImageTransform
from dlkd.data.mixing import Mixing
from dlkd.data.samples import ArrayPixels, FilePixels, Indices, Samples
from dlkd.data.view_key import epoch_order


class Batch(NamedTuple):
    """Some views of a training set."""

    images: Tensor
    """``[B, channels, H, W]``, fp32 in [0, 1]: one canonical image; each model normalises for itself."""
    target: Tensor
    """``[B]`` class numbers, or ``[B, C]`` soft labels where images are mixed."""
    labels: Tensor
    """``[B]``: the given label of each image itself, mixed or not."""
    positions: Tensor
    """``[B]``: where the samples stand in the training set."""
    views: Tensor
    """``[B]``: view numbers."""

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


@dataclass(frozen=True)
class ViewFamily:
    """All views of ``samples`` under one augmentation, mixing and seed.

    Args:
        samples: the training set.
        augment: :class:`CropFlip` for images in memory, :class:`ImageTransform` for files.
        mixing: pairs are formed per view number by a seeded permutation of the whole set.
        seed: of everything random about a view.
    """

    samples: Samples
    augment: CropFlip | ImageTransform
    mixing: Mixing = field(default_factory=Mixing)
    seed: int = 0

    @functools.cached_property
    def content(self) -> dict[str, object]:
        """Everything that the pixels of the views depend on, as JSON values."""
        return {
            "samples": self.samples.digest(),
            "augment": self.augment.describe(),
            "mixing": self.mixing.describe(),
            "seed": self.seed,
        }

    @functools.cached_property
    def hash(self) -> str:
        """Names the family: a stored teacher output is valid for this hash alone."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    def to(self, device: torch.device) -> ViewFamily:
        """The family with images that are held in memory moved to ``device``."""
        if isinstance(self.samples.pixels, FilePixels) or self.samples.pixels.array.device == device:
            return self
        samples = replace(self.samples, pixels=self.samples.pixels.to(device))
        return replace(self, samples=samples)

    def order(self, view: int) -> Indices:
        """Positions in the order of the epoch that shows ``view``; entries 2k and 2k + 1 are a pair."""
        return _order(self.seed, self._ids, view)

    @functools.cached_property
    def _ids(self) -> bytes:
        return self.samples.ids.tobytes()

    def partners(self, positions: Indices, views: Indices) -> Indices:
        """The position that each view is mixed with; its own for the odd one out."""
        partner = np.empty_like(positions)
        for view in np.unique(views):
            order = self.order(int(view))
            rank = np.empty_like(order)
            rank[order] = np.arange(order.size)
            chosen = views == view
            beside = rank[positions[chosen]] ^ 1
            partner[chosen] = order[np.where(beside < order.size, beside, order.size - 1)]
        return partner

    def batch(self, positions: Indices, views: Indices) -> Batch:
        """The views ``views`` of the samples at ``positions``, the same pixels in any company."""
        labels = self.samples.labels[torch.from_numpy(positions)]
        place = (torch.tensor(positions), torch.tensor(views))  # copies: an order is cached and shared
        if self.mixing.kind == "none":
            return Batch(self._plain(positions, views), labels, labels, *place)
        partners = self.partners(positions, views)
        # In a training batch the partners are all there already; a replayed view fetches its own.
        wanted = np.stack([np.concatenate([positions, partners]), np.concatenate([views, views])], axis=1)
        unique, where = np.unique(wanted, axis=0, return_inverse=True)
        images = self._plain(unique[:, 0], unique[:, 1])
        both = images[torch.from_numpy(where.reshape(2, -1)).to(images.device)]
        pair = np.minimum(self.samples.ids[positions], self.samples.ids[partners])
        mixed, own = self.mixing(both[0], both[1], self.seed, pair, views)
        classes = len(self.samples.class_names)
        share = own.unsqueeze(1)
        other = functional.one_hot(self.samples.labels[torch.from_numpy(partners)], classes)
        target = share * functional.one_hot(labels, classes) + (1 - share) * other
        return Batch(mixed, target, labels, *place)

    def batches(self, positions: Indices, view: int, size: int) -> Iterator[Batch]:
        """View number ``view`` of the samples at ``positions``, ``size`` at once."""
        for part in np.split(positions, range(size, len(positions), size)):
            yield self.batch(part, np.full_like(part, view))

    def _plain(self, positions: Indices, views: Indices) -> Tensor:
        """Augmented, not yet mixed: ``[B, channels, H, W]``, fp32 in [0, 1]."""
        ids, pixels = self.samples.ids[positions], self.samples.pixels
        if isinstance(pixels, ArrayPixels):
            assert isinstance(self.augment, CropFlip)
            chosen = pixels.array[torch.from_numpy(positions).to(pixels.array.device)]
            return self.augment(chosen, self.seed, ids, views).float() / 255
        assert isinstance(self.augment, ImageTransform)
        triples = zip(positions, ids, views, strict=True)
        return torch.stack([self.augment(pixels.load(p), self.seed, int(i), int(v)) for p, i, v in triples])


@functools.lru_cache(maxsize=4)
def _order(seed: int, ids: bytes, view: int) -> Indices:
    return epoch_order(seed, np.frombuffer(ids, np.int64), view)
