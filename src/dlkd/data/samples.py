"""Images with and without labels, and their split by seed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlkd.data.pixels import ArrayPixels as ArrayPixels
from dlkd.data.pixels import FilePixels as FilePixels
from dlkd.data.pixels import Indices as Indices
from dlkd.data.pixels import Pixels as Pixels
from dlkd.errors import UserError

UNLABELLED = -1
"""Stands for the label of an image that has none."""


@dataclass(frozen=True)
class Samples:
    """Images with the labels that a user would be given, possibly wrong ones."""

    pixels: Pixels
    labels: Tensor
    """``[N]``, int64; −1 for an image without one."""
    ids: Indices
    """``[N]``: the samples' numbers in their data set, which name their views whatever the split."""
    class_names: tuple[str, ...]
    wrong: npt.NDArray[np.bool_] | None = None
    """``[N]``: where the given label is known to be wrong; None where nobody knows."""
    weights: Tensor | None = None
    """``[N]``, fp32 in (0, 1]: how much each label counts; None where all count alike."""

    def __post_init__(self) -> None:
        n, classes = len(self.pixels), len(self.class_names)
        if self.labels.shape != (n,) or self.ids.shape != (n,):
            raise ValueError(f"expected one label and number for each of {n} images, but got {self.labels.numel()}")
        check_labels(self.labels, classes, least=UNLABELLED)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Indices) -> Samples:
        """The chosen samples, in the order of ``index``."""
        chosen = torch.from_numpy(index)
        return replace(
            self,
            pixels=self.pixels.take(index),
            labels=self.labels[chosen],
            ids=self.ids[index],
            wrong=None if self.wrong is None else self.wrong[index],
            weights=None if self.weights is None else self.weights[chosen],
        )

    @functools.cached_property
    def unlabelled(self) -> int:
        """How many images have no label."""
        return int((self.labels < 0).sum())

    @property
    def partly_labelled(self) -> bool:
        """Do some labels count for less than others, or not at all?"""
        return self.unlabelled > 0 or self.weights is not None

    def labelled(self) -> Samples:
        """Those that have a label."""
        return self.take(np.flatnonzero(self.labels.numpy() >= 0)) if self.unlabelled else self

    def with_hidden_labels(self, hidden: Indices) -> Samples:
        """The same images, those at ``hidden`` without a label, which then is not wrong either."""
        labels = self.labels.clone()
        labels[torch.from_numpy(hidden)] = UNLABELLED
        wrong = None if self.wrong is None else self.wrong.copy()
        if wrong is not None:
            wrong[hidden] = False
        return replace(self, labels=labels, wrong=wrong)

    def with_unlabelled(self, paths: Sequence[Path], beside: Path, first: int) -> Samples:
        """These images and, after them, more files without labels, numbered from ``first``.

        Raises:
            ValueError: these images are no files in folders.
        """
        if type(self.pixels) is not FilePixels:
            raise ValueError("expected images in folders to add more files to, but got images that are no files")
        more = len(paths)
        return Samples(
            FilePixels([*self.pixels.paths, *paths], self.pixels.root, beside),
            torch.cat([self.labels, torch.full((more,), UNLABELLED)]),
            np.concatenate([self.ids, np.arange(first, first + more)]),
            self.class_names,
            None if self.wrong is None else np.concatenate([self.wrong, np.zeros(more, bool)]),
            None if self.weights is None else torch.cat([self.weights, torch.ones(more)]),
        )

    def relabelled(self, labels: npt.NDArray[np.int64], wrong: npt.NDArray[np.bool_]) -> Samples:
        """The same images under other labels."""
        return replace(self, labels=torch.from_numpy(labels), wrong=wrong)

    def digest(self) -> str:
        """sha256 of the images and which samples they are, labels left out: teachers do not see them."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        # Once: the run card, the view family and the teacher's card all ask, and every file is opened for it.
        return hashlib.sha256(self.pixels.digest().encode() + self.ids.tobytes()).hexdigest()


def check_labels(labels: Tensor, classes: int, least: int = 0) -> None:
    """Refuse labels ``[N]`` that name no class.

    Raises:
        UserError: one is below ``least``, or not below the number of classes.
    """
    if labels.numel() and not least <= int(labels.min()) <= int(labels.max()) < classes:
        raise UserError(
            f"expected labels between 0 and {classes - 1} ({classes} classes), "
            f"but found {int(labels.min())} to {int(labels.max())}"
        )


def stratified_split(labels: npt.ArrayLike, share: float, seed: int | tuple[int, ...]) -> tuple[Indices, Indices]:
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


def stratified_folds(labels: npt.ArrayLike, folds: int, seed: int | tuple[int, ...]) -> Indices:
    """The fold ``[N]`` of each sample, 0 … folds − 1: every class is dealt out evenly, in a seeded order.

    Raises:
        ValueError: fewer than two folds, or a class with fewer samples than that.
    """
    y = np.asarray(labels)
    counts = np.bincount(y) if y.size else y
    if folds < 2 or (y.size and counts[counts > 0].min() < folds):
        raise ValueError(f"expected at least two folds, and as many samples of each class, but got {folds}")
    random = np.random.default_rng(seed)
    found, begun = np.empty(y.size, np.int64), 0
    for c in np.unique(y):
        members = random.permutation(np.flatnonzero(y == c))
        found[members] = (begun + np.arange(members.size)) % folds
        begun += members.size  # small classes do not all give their odd ones to the first fold
    return found
