"""What a case of bad input is made of: sound things to copy and spoil, and where to put them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dlkd.cli import main

SMALL = (
    *("--data.per_class", "30", "--epochs", "1", "--device", "cpu", "--engine.threads", "1"),
    *("--engine.tensorboard", "false", "--engine.report", "false"),
)
STUDENT = "resnet8x0.5"


@dataclass(frozen=True)
class Place:
    """The folder of one case; ``sound`` has what all of them share and none may change."""

    folder: Path
    sound: Path

    @property
    def teacher(self) -> Path:
        """A run of ``dlkd train`` that is well above chance."""
        return self.sound / "teacher"

    @property
    def canary(self) -> Path:
        """The file that hostile code would make."""
        return self.folder / "canary"

    def write(self, name: str, content: str | bytes) -> Path:
        """A file of the case."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def copy(self, name: str) -> Path:
        """A sound thing of one's own, to be spoilt: teacher, store, stopped (a run with a checkpoint) or photos."""
        return Path(shutil.copytree(self.sound / name, self.folder / name))

    def train(self, *more: object) -> list[str]:
        """The arguments of a small run, on digits unless it is told otherwise."""
        return _texts("train", "--out", self.folder / "new", "--model.name", STUDENT, *SMALL, *more)

    def distill(self, *more: object, teacher: Path | None = None) -> list[str]:
        """The arguments of a small run with the sound teacher or another."""
        weights = self.teacher if teacher is None else teacher
        student = ("--student.name", STUDENT, "--teacher.weights", weights)
        return _texts("distill", "--out", self.folder / "new", *student, *SMALL, *more)

    def images(self, *more: object) -> list[str]:
        """The arguments of a small run on the images in ``photos``."""
        return self.train(
            *("--data.name", "folder", "--data.root", self.folder / "photos", "--data.image_size", 32),
            *("--data.workers", 0, "--optim.batch_size", 8, "--data.held_out", 0, *more),
        )

    def build(self, store: Path, *more: object) -> list[str]:
        """The arguments of ``dlkd store build``."""
        return ["store", "build", *self.distill("--store", store, *more)[1:]]

    def with_store(self, store: Path, *more: object) -> list[str]:
        """The arguments of a run that reads a store."""
        return self.distill("--store", store, *more)

    def resume(self, run: Path, *more: object) -> list[str]:
        """The arguments that go on with a run."""
        return _texts("train", "--out", run, "--resume", *more)


def _texts(*arguments: object) -> list[str]:
    return [str(argument) for argument in arguments]


Make = Callable[[Place], Sequence[object]]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        part: of the program that meets it.
        what: in a user's words.
        make: prepares the files and gives the arguments.
        says: has to stand in the line.
        process: in a process of its own, as from a shell; with ``file_limit``, none of its files may become larger.
        leaves: what is meant to stay behind, by name in the folder of the case.
    """

    part: str
    what: str
    make: Make
    says: str
    process: bool = False
    file_limit: int | None = None
    leaves: tuple[str, ...] = ()


def sound_things(folder: Path) -> None:
    """Make the teacher, the store, the stopped run and the photos that cases copy."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    place = Place(folder, folder)
    run = ("--epochs", 10, "--optim.lr", 0.1, "--optim.schedule", "one_cycle", "--optim.batch_size", 16)
    main(_texts("train", "--out", place.teacher, "--model.name", STUDENT, *SMALL, *run))
    main(place.build(folder / "store", "--storage.views", 1))
    main(_texts("train", "--out", folder / "stopped", "--model.name", STUDENT, *SMALL, "--epochs", 2))
    for name in ("results.json", "student.json", "student.safetensors"):
        (folder / "stopped" / name).unlink()
    digits = load_digits()
    for label, name in enumerate(("zero", "one")):
        (folder / "photos" / name).mkdir(parents=True)
        for k, image in enumerate(digits.images[digits.target == label][:12]):
            picture = Image.fromarray(np.uint8(image * 255 / 16)).resize((32, 32))
            picture.save(folder / "photos" / name / f"{k:02d}.png")
