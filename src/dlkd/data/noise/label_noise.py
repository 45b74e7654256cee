"""From the options to the labels of a run: which kind of noise, how much was asked for, what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dlkd.data.noise.by_class import check_matrix, matrix_noise, pair_noise, superclass_noise, symmetric_noise
from dlkd.data.noise.instance import instance_noise, pixel_features
from dlkd.data.noise.label_file import read_labels
from dlkd.data.noise.noisy import Labels, NoisyLabels, compare
from dlkd.data.noise.superclass import superclasses
from dlkd.data.noise.tables import OPTION, read_matrix
from dlkd.data.samples import Samples
from dlkd.errors import UserError

NoiseKind = Literal["symmetric", "pair", "superclass", "instance", "matrix", "human"]
FROM_FILE = ("matrix", "human")


class NoiseReport(NamedTuple):
    """How labels became wrong, and how many did: of the training and held-out images together."""

    kind: NoiseKind
    asked: float | None
    """The rate that was asked for; of a matrix what it says about these images, of human labels nothing."""
    file: str | None
    """Name of the label file or matrix."""
    chosen: str | None
    """The set of labels in it."""
    transition: Labels
    """``[C, C]``, see :class:`~dlkd.data.NoisyLabels`; labels that are hidden from the training count as well."""

    @property
    def images(self) -> int:
        """How many."""
        return int(self.transition.sum())

    @property
    def wrong(self) -> int:
        """How many of them have a wrong label."""
        return self.images - int(self.transition.trace())

    @property
    def rate(self) -> float:
        """Their share, in [0, 1]."""
        return self.wrong / max(1, self.images)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the matrix."""
        known = {"kind": self.kind, "asked": self.asked, "realised": self.rate, "wrong": self.wrong}
        return {**known, "images": self.images, "file": self.file, "set": self.chosen}

    def sentence(self) -> str:
        """For people."""
        part, rate = f"{self.wrong} of {self.images} training labels", f"{100 * self.rate:.1f} %"
        if self.kind == "human":
            return f"{part} are wrong: {rate}, human labels ({self.chosen} of {self.file})"
        how = f"{self.kind} {self.file or ''}".rstrip()
        return f"{part} were made wrong on purpose: {rate}, {how}, {100 * (self.asked or 0):.4g} % asked for"


@dataclass(frozen=True)
class LabelNoise:
    """Which labels are made wrong, and how.

    Attributes:
        kind: see ``DataOptions.noise_kind``.
        rate: share of wrong labels, in [0, 1]; none where a file decides.
        file: the matrix, or the labels.
        chosen: the set of labels in the file.
    """

    kind: NoiseKind = "symmetric"
    rate: float = 0.0
    file: Path | None = None
    chosen: str | None = None

    def check(self) -> None:
        """Raise UserError where options do not fit together."""
        given = f"--data.noise_kind {self.kind}"
        if self.kind in FROM_FILE:
            if self.file is None:
                raise UserError(f"expected {OPTION} with {given}, but got none")
            if self.rate:
                raise UserError(f"expected no --data.noise with {given}, whose file has the rate, but got {self.rate}")
        else:
            if self.file is not None:
                kinds = " or ".join(FROM_FILE)
                raise UserError(f"expected --data.noise_kind {kinds} with {OPTION}, but got {self.kind}")
            if self.kind != "symmetric" and not self.rate:
                raise UserError(f"expected --data.noise above 0 with {given}, but got {self.rate}")
        if self.chosen is not None and self.kind != "human":
            raise UserError(f"expected --data.noise_kind human with --data.noise_set, but got {self.kind}")

    def __bool__(self) -> bool:
        return self.kind in FROM_FILE or self.rate > 0

    def apply(self, train: Samples, source: Samples, seed: int, name: str) -> tuple[Samples, NoiseReport]:
        """``train`` with noisy labels, and what became of them.

        Args:
            train: some of the training images, held-out ones among them, with their true labels.
            source: all training images of the data set, in its order: a label file has one label for each.
            seed: of what is drawn.
            name: of the data set, for messages.

        Raises:
            UserError: a file that does not fit, or superclasses of another data set.
        """
        noisy, asked, chosen = self._noisy(train, source, seed, name)
        file = None if self.file is None else self.file.name
        report = NoiseReport(self.kind, asked, file, chosen, noisy.transition)
        return train.relabelled(noisy.labels, noisy.wrong), report

    def _noisy(
        self, train: Samples, source: Samples, seed: int, name: str
    ) -> tuple[NoisyLabels, float | None, str | None]:
        true, names, rate = train.labels.numpy(), train.class_names, self.rate
        classes = len(names)
        if self.kind == "symmetric":
            return symmetric_noise(true, classes, rate, seed), rate, None
        if self.kind == "pair":
            return pair_noise(true, classes, rate, seed, train.ids), rate, None
        if self.kind == "superclass":
            try:
                groups = superclasses(names)
            except ValueError as error:
                raise UserError(f"{error}; give --data.name cifar100, or another --data.noise_kind") from error
            return superclass_noise(true, groups, rate, seed, train.ids), rate, None
        if self.kind == "instance":
            return instance_noise(pixel_features(train), true, classes, rate, seed, train.ids), rate, None
        assert self.file is not None
        if self.kind == "matrix":
            try:
                matrix = check_matrix(read_matrix(self.file), classes)
            except ValueError as error:
                raise UserError(f"{OPTION} {self.file}: {error}") from error
            noisy = matrix_noise(true, matrix, seed, train.ids)
            return noisy, float((1 - matrix.diagonal()[true]).sum() / max(1, true.size)), None
        labels, chosen = read_labels(self.file, source.labels.numpy(), names, self.chosen, name)
        return compare(true, labels[train.ids], classes), None, chosen
