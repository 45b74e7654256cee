"""From options to the training, held-out and test images of a run."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkd.data.cleaned import read_cleaned
from dlkd.data.noise import NoiseReport
from dlkd.data.options import DataOptions
from dlkd.data.same_images import duplicate_remark
from dlkd.data.samples import UNLABELLED, FilePixels, Indices, Samples, stratified_folds, stratified_split
from dlkd.data.sources import open_source, unlabelled_files
from dlkd.data.verify import damaged, without
from dlkd.errors import UserError

UNEVEN = 5
"""A class with so many times the images of another is worth a word."""


class DataSet(NamedTuple):
    """The images of a run."""

    name: str
    train: Samples
    held_out: Samples | None
    """Carved from the training images, labels as given; what choices may be made on."""
    test: Samples
    """Read once, at the end."""
    remarks: tuple[str, ...]
    """What was decided for the user, in words."""
    clean: Tensor
    """``[M]``: the labels of all training images as the data set has them, by the number of the sample."""
    noise: NoiseReport | None = None
    """How labels became wrong, if they did."""
    words: str = ""
    """The options of a command line that give it."""
    earlier: tuple[Samples, ...] = ()
    """What ``train`` was before some of each class were taken and labels were cleaned: a teacher may have been trained
    on that."""

    def clean_of(self, samples: Samples) -> Tensor:
        """The labels ``[N]`` that the data set itself has for some of its training images; −1 for others."""
        known = np.flatnonzero(samples.ids < len(self.clean))
        labels = torch.full((len(samples),), UNLABELLED)
        labels[torch.from_numpy(known)] = self.clean[torch.from_numpy(samples.ids[known])]
        return labels

    def part(self, split: Literal["train", "held_out", "test"]) -> Samples:
        """One of the three by name.

        Raises:
            UserError: there are no held-out images.
        """
        samples = {"train": self.train, "held_out": self.held_out, "test": self.test}[split]
        if samples is None:
            raise UserError("there are no held-out images; give --data.held_out a share above 0")
        return samples


def load_data(options: DataOptions, *, sealed: bool = False) -> DataSet:
    """Read the data set, wrong labels and splits included.

    Args:
        options: which.
        sealed: nobody may open the test images, not even to see whether one is damaged, or a training image too: that
            is looked at by whoever opens them.

    Raises:
        UserError: missing, damaged or empty data, fewer than two classes, labels out of range.
    """
    options.check()
    source = open_source(
        options.name,
        options.root,
        download=options.download,
        image_column=options.image_column,
        label_column=options.label_column,
    )
    remarks = list(source.remarks)
    train, test = source.train, source.test
    if test is None:
        rest, chosen = stratified_split(train.labels, options.test_share, options.seed)
        train, test = train.take(rest), train.take(chosen)
        remarks.append(
            f"{options.name} names no test images: {len(test)} of {len(rest) + len(chosen)} were set aside by seed "
            f"{options.seed}"
        )
    if not len(test):
        raise UserError("expected at least one test image; give a larger --data.test_share or more images")
    if options.per_class is not None:
        train = train.take(_first_of_each_class(train.labels, options.per_class))
    if not sealed and (duplicates := duplicate_remark(train, test)) is not None:
        remarks.append(duplicates)
    (bad, *bad_test), found = damaged((train,) if sealed else (train, test), options.verify)
    remarks += found
    if bad_test:
        test, _ = without(test, bad_test[0])
    if not len(test):
        raise UserError("expected at least one test image that can be read, but all are damaged; replace them")
    # Split by the labels as they came: runs with and without noise then train on the same images. From a
    # stream of its own: with the draws of the noise, wrong labels would gather in the held-out part.
    rest, chosen = _split(train, options)
    noise: NoiseReport | None = None
    if options.noise_kind == "instance":  # which looks at the images, but draws by their numbers
        train, (rest, chosen) = without(train, bad, rest, chosen)
        bad = bad[:0]
    if options.label_noise:
        train, noise = options.label_noise.apply(train, source.train, options.seed, options.name)
        remarks.append(noise.sentence())
    # Not before: the others keep their part, and their wrong label, whatever is left out.
    train, (rest, chosen) = without(train, bad, rest, chosen)
    if options.held_out and not len(chosen):
        remarks.append("too few images for a held-out part: nothing can be chosen on this run")
    held_out = train.take(chosen) if len(chosen) else None
    clean = source.train.labels[torch.from_numpy(train.ids[rest])]
    train = train.take(rest)
    if not len(train):
        raise UserError("expected at least one training image; give smaller shares, or more images")
    _check_classes(source.train, clean)
    if (uneven := _uneven(train)) is not None:
        remarks.append(uneven)
    earlier: tuple[Samples, ...] = ()
    if options.train_per_class is not None:
        earlier, few = (train,), _first_of_each_class(clean, options.train_per_class)
        remarks.append(f"{len(few)} of {len(train)} training images are learnt from")
        train = train.take(few)
    if options.cleaned is not None:
        earlier, table = (*earlier, train), read_cleaned(options.cleaned, source.train, len(source.train))
        train = table.apply(train, source.train.labels, noisy=noise is not None)
        _check_classes(earlier[-1], train.labels[train.labels >= 0], "cleaning", f"keep some in {options.cleaned}")
        remarks.append(table.sentence(earlier[-1], train))
    if options.labelled < 1:
        clean = source.train.labels[torch.from_numpy(train.ids)]
        train = train.with_hidden_labels(_hidden(clean, options.labelled, options.seed))
        remarks.append(f"{train.unlabelled} of {len(train)} training images had their labels hidden")
    if options.unlabelled is not None:
        # As they came: held-out images and those that are not learnt from are no more images either.
        known = [part.pixels for part in (source.train, source.test) if part is not None]
        files = unlabelled_files(options.unlabelled, [pixels for pixels in known if isinstance(pixels, FilePixels)])
        more = train.with_unlabelled(files, options.unlabelled, first=len(source.train))
        (bad,), found = damaged((more.take(np.arange(len(train), len(more))),), options.verify)
        train, _ = without(more, len(train) + bad)
        remarks += found
        remarks.append(f"{len(files)} images without labels were added from {options.unlabelled}")
    return DataSet(
        options.name, train, held_out, test, tuple(remarks), source.train.labels, noise, options.words(), earlier
    )


def _uneven(train: Samples) -> str | None:
    """What to tell of classes of which one has many times the images of another."""
    counts = train.labels[train.labels >= 0].bincount(minlength=len(train.class_names))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNEVEN * counts[least]:
        return None
    return (
        f"the classes are uneven: {train.class_names[most]!r} has {counts[most]} training images, "
        f"{train.class_names[least]!r} {counts[least]}; look at the balanced accuracy, for accuracy says little of the "
        "small ones"
    )


def _split(train: Samples, options: DataOptions) -> tuple[Indices, Indices]:
    """What is learnt from and what is kept apart."""
    if options.folds is None:
        return stratified_split(train.labels, options.held_out, (options.seed, 1))
    counts = train.labels.bincount(minlength=len(train.class_names))
    if few := ((counts > 0) & (counts < options.folds)).nonzero().flatten().tolist():
        more = f", nor do {len(few) - 1} more classes" if len(few) > 1 else ""
        raise UserError(
            f"expected at least {options.folds} training images of every class for {options.folds} folds, but "
            f"{train.class_names[few[0]]!r} has {counts[few[0]]}{more}; give fewer folds, or more images"
        )
    fold = stratified_folds(train.labels, options.folds, (options.seed, 4))
    return np.flatnonzero(fold != options.fold), np.flatnonzero(fold == options.fold)


def _check_classes(
    source: Samples,
    kept: Tensor,
    after: str = "splitting",
    advice: str = "give a smaller --data.held_out or --data.test_share",
) -> None:
    """Refuse what leaves a class of ``source`` without a training image."""
    before, left = (labels.bincount(minlength=len(source.class_names)) for labels in (source.labels, kept))
    empty = ((before > 0) & (left == 0)).nonzero().flatten().tolist()
    if empty:
        more = f", nor have {len(empty) - 1} more classes" if len(empty) > 1 else ""
        raise UserError(
            f"expected a training image of every class after {after}, but {source.class_names[empty[0]]!r} has none "
            f"left of {before[empty[0]]}{more}; {advice}"
        )


def _first_of_each_class(labels: Tensor, count: int) -> Indices:
    y = labels.numpy()
    return np.sort(np.concatenate([np.flatnonzero(y == c)[:count] for c in np.unique(y)]))


def _hidden(labels: Tensor, share: float, seed: int) -> Indices:
    """All but the first round(share·n) of each class in a seeded order: the labels of a share are among those of a
    larger one."""
    y = labels.numpy()
    random = np.random.default_rng((seed, 2))  # a stream of its own, as for the held-out part
    shuffled = [random.permutation(np.flatnonzero(y == c)) for c in np.unique(y)]
    return np.sort(np.concatenate([members[round(share * members.size) :] for members in shuffled]))
