"""Does an exported file say what the student says, on real images?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dlkd.data import ArrayPixels, DataOptions, DataSet, Samples, load_data, plain_batches
from dlkd.errors import UserError
from dlkd.evaluate import check_finite
from dlkd.export.runners import Runner
from dlkd.export.student import Student
from dlkd.jobs.card import CONFIG
from dlkd.jobs.of_run import data_beside
from dlkd.pages.plain_yaml import read_plain

Split = Literal["test", "held_out"]
AT_ONCE = 32


class Images(NamedTuple):
    """What an export is checked and calibrated on."""

    split: Split
    checked: Samples
    train: Samples
    size: int
    """Side of images that come from files."""
    data: DataSet

    def batches(self, samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
        """Images in [0, 1] with their labels."""
        return plain_batches(samples, size=self.size, batch_size=AT_ONCE)

    def name(self, position: int) -> str:
        """What an image that is checked is called, wherever its folder lies."""
        pixels = self.checked.pixels
        which = f"{self.split.replace('_', '-')} image {int(self.checked.ids[position])}"
        return which if isinstance(pixels, ArrayPixels) else f"{pixels.name(position)} ({which})"


def run_images(
    student: Student, asked: DataOptions, split: Literal["auto"] | Split, checked: int, calibrated: int
) -> Images:
    """Evenly chosen images of the student's run: test images, or held-out ones where its figures are of those.

    Args:
        student: whose.
        asked: data options of the user; where none is given, those of the run.
        split: which, or auto for those of the figures of the run.
        checked, calibrated: how many, at most.

    Raises:
        UserError: nobody knows which images, they are not there, or are those of other classes.
    """
    asked, _ = data_beside(student.file, asked, "check the export on", ", or --check_images 0")
    if split == "auto":
        split = _scored_on(student) if (student.folder / CONFIG).is_file() else "test"
    data = load_data(asked)
    names, channels = data.train.class_names, data.train.pixels.channels
    if names != student.class_names or channels != student.channels:
        raise UserError(
            f"expected images of the {len(student.class_names)} classes and {student.channels} channels of the student,"
            f" but those of {data.name} have {len(names)} and {channels}, or other names; give other --data options"
        )
    part = _evenly(data.part(split).labelled(), checked)
    if checked and not len(part):
        raise UserError(f"expected {split} images with labels to check the export on, but there are none")
    return Images(split, part, _evenly(data.train, calibrated), student.preprocessing.crop[0], data)


def _scored_on(student: Student) -> Split:
    try:
        return "held_out" if read_plain(student.folder / CONFIG).get("score_on") == "held_out" else "test"
    except Exception:  # said in a line by whoever read the data options of the same file
        return "test"


def _evenly(samples: Samples, count: int) -> Samples:
    """``count`` of them over all classes, which lie in order in many data sets."""
    if len(samples) <= count:
        return samples
    return samples.take(
        np.linspace(0, len(samples) - 1, count).round().astype(np.int64) if count else np.array([], int)
    )


@dataclass(frozen=True)
class Agreement:
    """An exported file beside the student, on the same images."""

    images: int
    split: Split
    max_difference: float
    """Of the logits."""
    mean_difference: float
    allowed: float
    """For the worst image."""
    top1_agreement: float
    """In %."""
    student_accuracy: float
    exported_accuracy: float
    worst: str
    """The image with the largest difference."""
    agrees: bool

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        # JSON has no infinity, which programs of others would choke on.
        return {k: None if v == torch.inf else v for k, v in dataclasses.asdict(self).items()}


def compared(images: Images, student: Runner, exported: Runner, tolerance: float) -> Agreement:
    """Ask both about all images that are to be checked.

    An image passes where no logit differs by more than ``tolerance`` · max(1, its largest logit); the answers that
    are compared are finite.
    """
    mine, theirs, labels = [], [], []
    for batch, given in images.batches(images.checked):
        mine.append(student(batch))
        theirs.append(exported(batch))
        labels.append(given)
    return agreement(torch.cat(mine), torch.cat(theirs), torch.cat(labels), images, tolerance)


def agreement(mine: Tensor, theirs: Tensor, labels: Tensor, images: Images, tolerance: float) -> Agreement:
    """See :func:`compared`; logits ``[N, C]`` of student and exported file, and labels ``[N]``."""
    check_finite(mine, images.checked.ids, "student")
    if mine.shape != theirs.shape:
        raise UserError(f"expected logits {list(mine.shape)} of the exported file, but got {list(theirs.shape)}")
    difference = (mine.double() - theirs.double()).abs().nan_to_num(nan=torch.inf)
    of_image = difference.amax(dim=1)
    allowed = tolerance * mine.double().abs().amax(dim=1).clamp(min=1)
    worst = int((of_image / allowed).argmax())
    said, exported_said = mine.argmax(dim=1), theirs.argmax(dim=1)
    return Agreement(
        images=len(labels),
        split=images.split,
        max_difference=float(of_image.max()),
        mean_difference=float(difference.mean()),
        allowed=float(allowed[worst]),
        top1_agreement=_percent(said == exported_said),
        student_accuracy=_percent(said == labels),
        exported_accuracy=_percent(exported_said == labels),
        worst=images.name(worst),
        agrees=bool((of_image <= allowed).all()),
    )


def _percent(hits: Tensor) -> float:
    return 100 * float(hits.double().mean())
