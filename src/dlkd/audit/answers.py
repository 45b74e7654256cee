"""What a teacher and its probes say about images, averaged over views, and kept between two processes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlkd.arrays import read_arrays, write_arrays
from dlkd.data import Mixing, Samples, ViewFamily, plain_batches
from dlkd.difficulty import probe_distance
from dlkd.teacher import FrozenTeacher

Floats = npt.NDArray[np.floating]
BATCH = 256


class Answers(NamedTuple):
    """About some images."""

    ids: npt.NDArray[np.int64]
    """``[N]``: numbers of the samples."""
    teacher: Floats
    """``[N, C]``: probabilities, mean over the views."""
    probe: Floats
    """``[N, C]``: the same, mean over the probes too."""
    distance: Floats
    """``[N]``: mean over views and probes."""

    @staticmethod
    def of_logits(ids: npt.NDArray[np.int64], views: Iterable[tuple[Tensor, Sequence[Tensor]]], tau: float) -> Answers:
        """Out of the logits of the teacher and of each probe, ``[N, C]`` each, for every view; at least one of each."""
        rows = [
            (
                torch.softmax(teacher.float(), dim=1),
                torch.stack([torch.softmax(p.float(), dim=1) for p in probes]).mean(dim=0),
                torch.stack([probe_distance(teacher, p, temperature=tau) for p in probes]).mean(dim=0),
            )
            for teacher, probes in views
        ]
        means = (torch.stack(part).mean(dim=0).cpu().numpy() for part in zip(*rows, strict=True))
        return Answers(ids, *means)

    @staticmethod
    def joined(parts: Sequence[Answers]) -> Answers:
        """All of them, in the order of the samples' numbers."""
        ids = np.concatenate([part.ids for part in parts])
        order = np.argsort(ids)
        return Answers(ids[order], *(np.concatenate(each)[order] for each in list(zip(*parts, strict=True))[1:]))

    def save(self, file: Path) -> None:
        """Whole or not at all."""
        write_arrays(file, self._asdict())

    @staticmethod
    def load(file: Path) -> Answers | None:
        """None where there is none that can be read: it is asked for again."""
        try:
            return Answers(**read_arrays(file))
        except (ValueError, TypeError):
            return None


def shown(samples: Samples, family: ViewFamily, views: int, size: int) -> list[Iterable[Tensor]]:
    """The batches of each view: the plain images, and so many views augmented as in training, but never mixed: what is
    said of half an image is no evidence about its label.

    Args:
        samples: the images.
        family: how they are augmented.
        views: how many; 0 shows the plain image alone.
        size: side in pixels of images that come from files.
    """
    own = replace(family, samples=samples, mixing=Mixing())
    everything = np.arange(len(samples))
    augmented = ((batch.images for batch in own.batches(everything, view, BATCH)) for view in range(views))
    return [(images for images, _ in plain_batches(samples, size=size, batch_size=BATCH)), *augmented]


def ask(teacher: FrozenTeacher, batches: Iterable[Tensor], device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """What teacher and probes give for one view of all images: ``[N, …]`` each, on the CPU."""
    rows = []
    for images in batches:
        out = teacher(images.to(device))
        rows.append((out.logits.cpu(), *(p.cpu() for p in out.probe_logits)))
    first, *probes = (torch.cat(part) for part in zip(*rows, strict=True))
    return first, probes
