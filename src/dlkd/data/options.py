"""Which images and labels a run has."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from dlkd.data.noise import LabelNoise, NoiseKind
from dlkd.data.sources import NAMES, check_source_name, has_columns, in_folders
from dlkd.data.verify import Verify
from dlkd.errors import UserError

MAX_SIDE = 1 << 13
"""In pixels: a batch of larger images fits into no memory."""


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
