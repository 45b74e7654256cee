"""From options to the training, held-out and test images of a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkd.data.cleaned import read_cleaned
from dlkd.data.noise import LabelNoise, NoiseKind, NoiseReport
from dlkd.data.same_images import duplicate_remark
from dlkd.data.samples import UNLABELLED, FilePixels, Indices, Samples, stratified_folds, stratified_split
from dlkd.data.sources import NAMES, check_source_name, has_columns, in_folders, open_source, unlabelled_files
from dlkd.data.verify import Verify, damaged, without
from dlkd.errors import UserError

MAX_SIDE = 1 << 13
"""In pixels: a batch of larger images fits into no memory."""


UNEVEN = 5
"""A class with so many times the images of another is worth a word."""


@dataclass(frozen=True)
class DataOptions:
    """Which images and labels.

    Attributes:
        name: digits (bundled with scikit-learn), cifar10, cifar100, tiny-imagenet, imagenet, cub200, stanford-dogs,
            stanford-cars, fgvc-aircraft, mit67, stanford40, flowers102, oxford-pets, food101, folder (one sub-folder a
            class, in ``train`` and ``test`` or all together), npz (arrays in the layout of MedMNIST), table (CSV or
            Parquet of paths and labels), webdataset (.tar shards), hf:NAME_OR_FOLDER (Hugging Face), or
            package.module:factory, a function that gives ``Dataset`` objects.
        root: folder of the data set, the .npz, .csv or .parquet file, or a pattern of shards.
        download: fetch a data set into root where it is missing, if somebody gives it for fetching.
        image_column: of a table, the column of paths; of a Hugging Face set, that of images.
        label_column: the same, of labels.
        verify: decode every image before the run (true), so that a damaged one is told at once; of files, those whose
            first or last bytes look wrong (auto), or none (false). skip decodes all and leaves the damaged ones out.
        per_class: use only the first so many training images of each class.
        held_out: share of the training images kept apart, with their labels as given, for every choice.
        folds: cut the training images into so many parts, of which one is kept apart instead.
        fold: which, counted from 0.
        train_per_class: learn from only the first so many of each class of what is left. Held-out images and wrong
            labels stay those of the whole set, and with them those of a teacher of the whole set.
        test_share: share set aside as test images where the data set names none.
        noise: share of wrong labels among the training images, held-out ones included; never among test images.
        noise_kind: symmetric (exactly this share of each class, to any other), pair (to the next class), superclass
            (to one of the same superclass of CIFAR-100), instance (by the image, Xia et al. 2020); or from noise_file:
            matrix (of class transitions), human (labels that somebody gave).
        noise_file: matrix of C × C (.csv, .npy, .json), or one label for each training image of the data set, in its
            order, as class numbers or names (.npz, .pt, .npy, .csv, .json, .txt).
        noise_set: which labels of a file of several: worst, aggregate, random1, random2 or random3 of CIFAR-10N, or
            the name of a column.
        cleaned: table of ``dlkd clean`` (.csv or .parquet) with other labels or weights for training images, after an
            audit; held-out and test labels stay as they are.
        labelled: share of the training images of each class that keep their label; the others teach through the
            teacher alone.
        unlabelled: folder of more training images without labels, at any depth, for a data set of files.
        seed: of the noise, the splits and the hidden labels; runs with other seeds share them.
        image_size: side in pixels of images that come from files; by default the teacher's.
        workers: processes that prepare images; by default none for images in memory, all cores but one for files.
        timeout: seconds that a batch of theirs is waited for; 0 for ever.
    """

    name: str = "digits"
    root: Path = Path("data")
    download: bool = True
    image_column: str | None = None
    label_column: str | None = None
    verify: Verify = "auto"
    per_class: int | None = None
    held_out: float = 0.1
    folds: int | None = None
    fold: int | None = None
    train_per_class: int | None = None
    test_share: float = 0.2
    noise: float = 0.0
    noise_kind: NoiseKind = "symmetric"
    noise_file: Path | None = None
    noise_set: str | None = None
    cleaned: Path | None = None
    labelled: float = 1.0
    unlabelled: Path | None = None
    seed: int = 0
    image_size: int | None = None
    workers: int | None = None
    timeout: int = 600

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        check_source_name(self.name)
        for name in ("held_out", "test_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"expected --data.{name} to be in [0, 1), but got {getattr(self, name)}")
        for name in ("noise", "labelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"expected --data.{name} to be in [0, 1], but got {getattr(self, name)}")
        self.label_noise.check()
        if (self.folds is None) != (self.fold is None) or not 0 <= (self.fold or 0) < max(2, self.folds or 2):
            raise UserError(
                f"expected --data.folds of at least 2 with a --data.fold below it, but got {self.folds} and {self.fold}"
            )
        if self.folds is not None and self.folds < 2:
            raise UserError(f"expected --data.folds to be at least 2, but got {self.folds}")
        if self.unlabelled is not None and not in_folders(self.name):
            raise UserError(f"expected a --data.name of images in folders with --data.unlabelled, but got {self.name}")
        for name in ("image_column", "label_column"):
            if getattr(self, name) is not None and not has_columns(self.name):
                raise UserError(f"expected --data.name table or hf:… with --data.{name}, but got {self.name}")
        if self.seed < 0:
            raise UserError(f"expected --data.seed to be at least 0, but got {self.seed}")
        for name, least in (
            ("per_class", 1),
            ("train_per_class", 1),
            ("image_size", 8),
            ("workers", 0),
            ("timeout", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"expected --data.{name} to be at least {least}, but got {value}")
        if self.image_size is not None and self.image_size > MAX_SIDE:
            raise UserError(f"expected --data.image_size to be at most {MAX_SIDE}, but got {self.image_size}")

    def words(self) -> str:
        """How a command line says it."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}
        place = given.pop("root", None) if self.name in ("folder", "table", "npz") else None
        if place is not None:
            del given["name"]
            # The name of a data set would mean that.
            start = ["--data", f"./{place}" if str(place) in NAMES else str(place)]
        else:
            start = ["--data", given.pop("name", self.name)]
        rest = [
            part
            for name, of in given.items()
            for part in (f"--data.{name}", str(of).lower() if of is True or of is False else str(of))
        ]
        return shlex.join([*start, *rest])

    @property
    def label_noise(self) -> LabelNoise:
        """The options that say which labels are wrong; false where none is."""
        return LabelNoise(self.noise_kind, self.noise, self.noise_file, self.noise_set)


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
        sealed: nobody may open the test images, not even to see whether one is damaged.

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
    if (duplicates := duplicate_remark(train, test)) is not None:
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
        roots = [part.pixels.root for part in (train, test) if isinstance(part.pixels, FilePixels)]
        files = unlabelled_files(options.unlabelled, roots)
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
