"""Does a network repeat the wrong labels that it was given?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from dlkd.data import DataSet, Samples, epoch_order

MOST = 10_000
"""Images asked about at most: enough for half a point."""


def memorisation(logits: Tensor, given: Tensor, true: Tensor) -> dict[str, float]:
    """Of images with a wrong label, the shares in per cent for which the network names that wrong label, the true one,
    and neither.

    On training images the first is what it has memorised. On held-out images, whose labels it has not seen, it is what
    a network does without memory.

    Args:
        logits: ``[N, C]``.
        given: ``[N]``, the wrong labels.
        true: ``[N]``.

    Raises:
        ValueError: no images, or one whose label is not wrong.
    """
    if not len(given) or bool((given == true).any()):
        raise ValueError("expected at least one image, each with a given label other than the true one")
    predicted = logits.argmax(dim=1)
    wrong, right = (100 * (predicted == labels).double().mean().item() for labels in (given, true))
    return {"images": len(given), "wrong_label": wrong, "true_label": right, "neither": max(0.0, 100 - wrong - right)}


class Mislabelled(NamedTuple):
    """Images whose given label is wrong."""

    samples: Samples
    true: Tensor
    """``[N]``."""


def mislabelled(data: DataSet, most: int = MOST) -> dict[str, Mislabelled]:
    """The training and held-out images whose label is known to be wrong, by part; at most ``most`` of each, chosen by
    hash."""
    parts = {"train": data.train, "held_out": data.held_out}
    found = {}
    for name, samples in parts.items():
        if samples is None or samples.wrong is None or not samples.wrong.any():
            continue
        wrong = samples.take(np.flatnonzero(samples.wrong))
        chosen = wrong.take(np.sort(epoch_order(0, wrong.ids, 0)[:most]))
        found[name] = Mislabelled(chosen, data.clean_of(chosen))
    return found
