"""A view family: every augmented view of a training set, each named by (sample, view number)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dlkd.data.augment import ArrayAugment, CropFlip, ImageTransform
from dlkd.data.erase import Erase
from dlkd.data.mixing import Mixing
from dlkd.data.samples import ArrayPixels, FilePixels, Indices, Samples
from dlkd.data.view_key import Stream, epoch_order, view_key


class Batch(NamedTuple):
    """Some views of a training set."""

    images: Tensor
    """``[B, channels, H, W]``, fp32 in [0, 1]: one canonical image; each model normalises for itself."""
    target: Tensor
    """``[B]`` class numbers, or ``[B, C]`` soft labels where images are mixed; −1, or a row of shares that sum to less
    than one, where there is no label."""
    labels: Tensor
    """``[B]``: the given label of each image itself, mixed or not; −1 for none."""
    positions: Tensor
    """``[B]``: where the samples stand in the training set."""
    views: Tensor
    """``[B]``: view numbers."""
    strong: Tensor | None = None
    """The strongly augmented views of the same images, as ``images``, where there are such."""
    weights: Tensor | None = None
    """``[B]``: how much the label of each image itself counts; None where all count alike. Of soft targets the rows sum
    to what counts of them."""

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with ``change`` applied to all that it holds."""
        images, target, labels, positions, views = map(change, self[:5])
        strong, weights = (None if part is None else change(part) for part in (self.strong, self.weights))
        return Batch(images, target, labels, positions, views, strong, weights)

    def strong_view(self) -> Batch:
        """The strong views as a batch of their own, with the same targets."""
        assert self.strong is not None
        return self._replace(images=self.strong, strong=None)

    def labelled_share(self) -> Tensor:
        """``[B]``: how much of each target counts: 1, or less where an image without a label, or with one of less
        weight, has part in it."""
        if self.target.is_floating_point():
            return self.target.sum(dim=1)
        known = (self.target >= 0).float()
        return known if self.weights is None else known * self.weights

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``."""
        return self.map(lambda part: part.to(device, non_blocking=True))


@dataclass(frozen=True)
class ViewFamily:
    """All views of ``samples`` under one augmentation, mixing and seed.

    Args:
        samples: the training set.
        augment: :class:`CropFlip` or :class:`ArrayAugment` for images in memory, :class:`ImageTransform` for files.
        mixing: pairs are formed per view number by a seeded permutation of the whole set.
        seed: of everything random about a view.
        erase: a box that is set to 0 before images mix.
        strong: are these the strong views of a weak/strong pair? They mix as the weak ones do, so that both have one
            target, and are augmented from a seed of their own.
    """

    samples: Samples
    augment: CropFlip | ArrayAugment | ImageTransform
    mixing: Mixing = field(default_factory=Mixing)
    seed: int = 0
    erase: Erase | None = None
    strong: bool = False

    @functools.cached_property
    def content(self) -> dict[str, object]:
        """Everything that the pixels of the views depend on, as JSON values."""
        return {
            "samples": self.samples.digest(),
            "augment": self.augment.describe(),
            "mixing": self.mixing.describe(),
            "seed": self.seed,
            # Only where they are used: what is stored of other families stays theirs.
            **({} if self.erase is None else {"erase": self.erase.describe()}),
            **({"strong": True} if self.strong else {}),
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
        labels, weights = self._labels(positions)
        place = (torch.tensor(positions), torch.tensor(views))  # copies: an order is cached and shared
        if self.mixing.kind == "none":
            return Batch(self._plain(positions, views), labels, labels, *place, weights=weights)
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
        rows = (_one_hot(*each, classes) for each in ((labels, weights), self._labels(partners)))
        target = share * next(rows) + (1 - share) * next(rows)
        return Batch(mixed, target, labels, *place, weights=weights)

    def _labels(self, positions: Indices) -> tuple[Tensor, Tensor | None]:
        """The given labels ``[B]`` and how much each counts."""
        index, weights = torch.from_numpy(positions), self.samples.weights
        return self.samples.labels[index], None if weights is None else weights[index]

    def batches(self, positions: Indices, view: int, size: int) -> Iterator[Batch]:
        """View number ``view`` of the samples at ``positions``, ``size`` at once."""
        for part in np.split(positions, range(size, len(positions), size)):
            yield self.batch(part, np.full_like(part, view))

    def _plain(self, positions: Indices, views: Indices) -> Tensor:
        """Augmented, not yet mixed: ``[B, channels, H, W]``, fp32 in [0, 1]."""
        ids, pixels, seed = self.samples.ids[positions], self.samples.pixels, self._augment_seed
        if isinstance(pixels, ArrayPixels):
            assert not isinstance(self.augment, ImageTransform)
            chosen = pixels.array[torch.from_numpy(positions).to(pixels.array.device)]
            images = self.augment(chosen, seed, ids, views).float() / 255
        else:
            assert isinstance(self.augment, ImageTransform)
            triples = zip(positions, ids, views, strict=True)
            images = torch.stack([self.augment(pixels.load(p), seed, int(i), int(v)) for p, i, v in triples])
        return images if self.erase is None else self.erase(images, seed, ids, views)

    @functools.cached_property
    def _augment_seed(self) -> int:
        return int(view_key(self.seed, 0, 0, Stream.STRONG)) if self.strong else self.seed


def _one_hot(labels: Tensor, weights: Tensor | None, classes: int) -> Tensor:
    """``[B, C]``, rows that sum to the weight of the label; a row of zeros where there is none."""
    rows = functional.one_hot(labels.clamp(min=0), classes) * (labels >= 0).unsqueeze(1)
    return rows if weights is None else rows * weights.unsqueeze(1)


@functools.lru_cache(maxsize=4)
def _order(seed: int, ids: bytes, view: int) -> Indices:
    return epoch_order(seed, np.frombuffer(ids, np.int64), view)
