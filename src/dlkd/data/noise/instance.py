"""Label noise that depends on the image: the generator of Xia et al., Part-dependent label noise, NeurIPS 2020."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri
from torch.nn.functional import adaptive_avg_pool2d

from dlkd.data.loader import plain_batches
from dlkd.data.noise.noisy import Labels, NoisyLabels, check_share, check_true, compare, draws, numbers_of
from dlkd.data.samples import ArrayPixels, Samples

Features = npt.NDArray[np.float64]

RATE_STD = 0.1
"""Standard deviation of the flip rate from image to image."""
SIDE = 32
"""Larger images are reduced to this side: a projection has (pixels × classes) numbers for each class."""
TOGETHER = 1024
"""Images that are projected at once."""


def flip_distribution(features: Features, true_class: int, num_classes: int, seed: int) -> Features:
    """Which wrong label an image of one class gets if it gets one: softmax over the other classes of x·W_c.

    Args:
        features: ``[n, d]``, flattened images.
        true_class: c, that of all of them.
        num_classes: C.
        seed: of W_c ``[d, C]``, whose entries are drawn from N(0, 1).

    Returns:
        ``[n, C]``; the column of the true class is 0, and rows sum to one.
    """
    projection = np.random.default_rng((seed, 4, true_class)).standard_normal((features.shape[1], num_classes))
    return _softmax_of_others(features @ projection, true_class)


def _softmax_of_others(scores: Features, true_class: int) -> Features:
    scores[:, true_class] = -np.inf
    weight = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Features = weight / weight.sum(axis=1, keepdims=True)
    return shares


def instance_noise(
    features: Callable[[Labels], Features],
    labels: npt.ArrayLike,
    num_classes: int,
    rate: float,
    seed: int,
    ids: npt.ArrayLike | None = None,
) -> NoisyLabels:
    """Algorithm 2 of Xia et al.: image n of class c keeps its label with probability 1 − q_n, and otherwise gets
    label j with probability softmax_{j≠c}(x_n·W_c).

    The flip rate q_n is drawn from N(rate, 0.1²) truncated to [0, 1], and W_c once for each class from N(0, 1). The
    number of wrong labels is not exact, and truncation moves the mean of q: to 0.129 at rate 0.1, 0.206 at 0.2, 0.400
    at 0.4. An image draws by its number, so that its label does not depend on which others there are.

    Args:
        features: gives the flattened images ``[n, d]`` at some positions; the authors take pixel values from 0 to 255.
        labels: true class numbers ``[N]`` in ``[0, num_classes)``.
        num_classes: C, at least 2.
        rate: mean of the flip rates before truncation, in [0, 1].
        seed: of q, W and the draws.
        ids: numbers of the samples ``[N]``; by default 0 … N − 1.

    Raises:
        ValueError: labels or numbers out of range, fewer than two classes, or a rate outside [0, 1].
    """
    true = check_true(labels, num_classes)
    check_share(rate)
    draw = draws(seed, numbers_of(true, ids))
    flips = draw[:, 0] < _truncated_normal(draw[:, 2], rate)
    noisy = true.copy()
    for c in np.unique(true):
        members = np.flatnonzero((true == c) & flips)
        for part in np.array_split(members, -(-members.size // TOGETHER)) if members.size else ():
            below = flip_distribution(features(part), int(c), num_classes, seed).cumsum(axis=1)
            place = (below <= draw[part, 1, None] * below[:, -1:]).sum(axis=1)
            noisy[part] = np.minimum(place, num_classes - 1)
    return compare(true, noisy, num_classes)


def _truncated_normal(quantile: Features, rate: float) -> Features:
    """Quantiles of N(rate, 0.1²) truncated to [0, 1]."""
    low, high = ndtr(-rate / RATE_STD), ndtr((1 - rate) / RATE_STD)
    value: Features = np.clip(rate + RATE_STD * ndtri(low + quantile * (high - low)), 0, 1)
    return value


def pixel_features(samples: Samples) -> Callable[[Labels], Features]:
    """The plain images of ``samples``, 0 to 255, flattened; those above 32 pixels a side reduced to 32."""

    def features(positions: Labels) -> Features:
        parts = []
        for images, _ in plain_batches(samples.take(positions), size=SIDE):
            if isinstance(samples.pixels, ArrayPixels):
                height, width = (min(side, SIDE) for side in images.shape[-2:])
                images = adaptive_avg_pool2d(images, (height, width))
            parts.append(255 * images.flatten(1).double().numpy())
        return np.concatenate(parts)

    return features
