"""The way back from an audit: other labels and weights for training images, read from a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dlkd.data.pixels import FilePixels, Indices
from dlkd.data.samples import UNLABELLED, Samples
from dlkd.data.sources.table import read_table
from dlkd.errors import UserError, first_few

OPTION = "--data.cleaned"


@dataclass(frozen=True)
class Cleaned:
    """What a table says of some training images, by the number of the sample."""

    file: Path
    ids: Indices
    labels: Indices
    """``[K]``: class numbers; −1 for an image that shall teach through the teacher alone."""
    weights: npt.NDArray[np.float64]
    """``[K]`` in [0, 1]: how much the label counts; 0 leaves the image out."""
    given: Indices | None
    """``[K]``: the labels that the table was made of, where it says so."""

    def apply(self, train: Samples, true: Tensor, *, noisy: bool) -> Samples:
        """``train`` with these labels and weights; images that the table does not name stay as they are.

        Args:
            train: training images with the labels as given.
            true: ``[M]``, the labels of the data set itself, by the number of the sample.
            noisy: are these known to be the true ones?

        Raises:
            UserError: the table is of other labels, or leaves nothing over.
        """
        row = np.full(max(len(true), int(train.ids.max(initial=-1)) + 1), -1)
        row[self.ids] = np.arange(self.ids.size)
        row = row[train.ids]
        known = row >= 0
        labels, weights = train.labels.numpy().copy(), np.ones(len(train))
        if self.given is not None:
            differ = int((labels[known] != self.given[row[known]]).sum())
            if differ:
                raise UserError(
                    f"expected {OPTION} {self.file} to be of these labels, but {differ} of {int(known.sum())} given "
                    "labels in it are others; audit the data with the same --data options"
                )
        labels[known], weights[known] = self.labels[row[known]], self.weights[row[known]]
        wrong = train.wrong
        if noisy:
            wrong = (labels != true.numpy()[train.ids]) & (labels >= 0)
        some = torch.from_numpy(weights).float()
        changed = replace(train, labels=torch.from_numpy(labels), wrong=wrong, weights=some)
        if not (kept := np.flatnonzero(weights > 0)).size:
            raise UserError(f"expected a training image that {OPTION} {self.file} keeps, but it leaves out all")
        changed = changed.take(kept) if kept.size < len(train) else changed
        assert changed.weights is not None
        return replace(changed, weights=None) if bool((changed.weights == 1).all()) else changed

    def sentence(self, before: Samples, after: Samples) -> str:
        """What came of it, for people."""
        still = np.isin(before.ids, after.ids)
        changed = int(((before.labels.numpy()[still] != after.labels.numpy()) & (after.labels.numpy() >= 0)).sum())
        parts = [
            f"{changed} labels changed",
            f"{after.unlabelled - before.unlabelled} labels taken away",
            f"{len(before) - len(after)} images left out",
        ]
        if after.weights is not None:
            parts.append(f"labels count {float(after.weights.mean()):.2f} on average")
        return f"{self.file.name}: {', '.join(parts)}"


def read_cleaned(path: Path, source: Samples, samples: int) -> Cleaned:
    """The table of ``dlkd clean``: columns ``id`` and ``label``, and perhaps ``weight``, ``path`` and ``given_label``.

    Args:
        path: ``.csv``, ``.tsv`` or ``.parquet``.
        source: all training images of the data set, in its order.
        samples: how many they are.

    Raises:
        UserError: a file that cannot be read, numbers or names that the data set lacks, weights outside [0, 1].
    """
    columns = read_table(path, OPTION)
    if missing := [name for name in ("id", "label") if name not in columns]:
        raise UserError(f"expected a column {missing[0]!r} in {OPTION} {path}, but found {', '.join(columns)}")
    ids = np.array([_whole(value, path, samples) for value in columns["id"]], np.int64)
    if np.unique(ids).size < ids.size:
        raise UserError(f"expected each id once in {OPTION} {path}, but {int(ids[_again(ids)])} is there again")
    if "path" in columns and isinstance(source.pixels, FilePixels):
        names = [(int(i), str(columns["path"][k])) for k, i in enumerate(ids)]
        others = [name for i, name in names if name != source.pixels.name(i)]
        if others:
            raise UserError(
                f"expected {OPTION} {path} to be of this data set, but {len(others)} of its paths are others: "
                f"{first_few(others)}"
            )
    labels = _classes(columns["label"], source.class_names, path)
    given = _classes(columns["given_label"], source.class_names, path) if "given_label" in columns else None
    weights = np.array([_share(value, path) for value in columns.get("weight", [1.0] * ids.size)])
    return Cleaned(path, ids, labels, weights, given)


def leaves_images_out(path: Path) -> bool:
    """Is there an image in a table that shall not be learnt from? Others only change what is learnt of theirs.

    Raises:
        UserError: a file that cannot be read.
    """
    return any(_share(value, path) == 0 for value in read_table(path, OPTION).get("weight", ()))


def _again(ids: Indices) -> int:
    """Where a number stands for the second time."""
    _, first = np.unique(ids, return_index=True)
    return int(np.setdiff1d(np.arange(ids.size), first)[0])


def _whole(value: object, path: Path, samples: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if not 0 <= number < samples:
        raise UserError(
            f"expected ids between 0 and {samples - 1} in {OPTION} {path}, the numbers of the training images, but "
            f"found {value!r:.40}"
        )
    return number


def _share(value: object, path: Path) -> float:
    try:
        number = float(np.float32(str(value)))  # as it is used: the smallest are 0
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise UserError(f"expected weights in [0, 1] in {OPTION} {path}, but found {value!r:.40}")
    return number


def _classes(values: object, names: tuple[str, ...], path: Path) -> Indices:
    assert isinstance(values, list)
    place = {"": UNLABELLED} | {name: k for k, name in enumerate(names)}
    texts = ["" if value is None else str(value) for value in values]
    if strange := [text for text in texts if text not in place]:
        raise UserError(
            f"expected names of the classes of the data in {OPTION} {path}, but found {first_few(sorted(set(strange)))}"
        )
    return np.array([place[text] for text in texts], np.int64)
