"""``dlkd predict``: what a model says of pictures, however many and wherever they lie."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dlkd.data.sources.source import IMAGE_SUFFIXES
from dlkd.errors import UserError, first_line
from dlkd.export.predictor import Answer, Predictor, open_predictor
from dlkd.export.rows import rows_to
from dlkd.files import check_new_file
from dlkd.train.device import pick_device


@dataclass(frozen=True)
class PredictOptions:
    """Ask a trained model about pictures.

    Attributes:
        model: a run, its student.safetensors, an exported .onnx with its JSON file, or a folder of dlkd export.
        images: pictures, and folders of pictures at any depth.
        out: file to write, .csv or .jsonl; by default lines of JSON on standard output.
        top: so many classes of each picture, the most probable first.
        batch_size: pictures in memory at once.
        device: auto, cpu, cuda, cuda:1, mps; ONNX files run on the CPU.
        threads: of the CPU; by default torch's choice.
        name: factory of the student, package.module:factory, if it was made by one.
        overwrite: replace an earlier file.
    """

    model: Path
    images: list[Path] = field(default_factory=list)
    out: Path | None = None
    top: int = 5
    batch_size: int = 32
    device: str = "auto"
    threads: int | None = None
    name: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if not self.images:
            raise UserError("expected --images with pictures or folders of them, but got none; as in --images photos")
        for path in self.images:
            if not path.exists():
                raise UserError(f"expected a picture or a folder of pictures at {path}, but there is nothing")
        if self.out is not None:
            if self.out.suffix not in (".csv", ".jsonl"):
                raise UserError(f"expected --out to end with .csv or .jsonl, but got {self.out}")
            check_new_file(self.out, overwrite=self.overwrite)
        for name in ("top", "batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"expected --{name} to be at least 1, but got {value}")


def predict(options: PredictOptions) -> dict[str, int]:
    """Write a row for every picture; returns how many there were and how many could not be read.

    Raises:
        UserError: no such model, or no pictures. A picture that cannot be read has its row, and stops nothing.
    """
    options.check()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    predictor = open_predictor(options.model, name=options.name, device=device, threads=options.threads)
    top = min(options.top, len(predictor.preprocessing.class_names))
    found = pictures(options.images)
    first = next(found, None)
    if first is None:
        raise UserError(
            f"expected pictures in {options.images[0]}, but found none; pictures end with "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}, or are named one by one"
        )
    seen = unread = 0
    with rows_to(options.out, top) as write:
        for answer in answers(predictor, itertools.chain([first], found), top, options.batch_size):
            write(answer)
            seen += 1
            unread += answer.error is not None
    where = sys.stderr if options.out is None else sys.stdout
    into = "" if options.out is None else f": {options.out}"
    print(f"{seen} pictures, {unread} of them could not be read{into}", file=where)
    return {"pictures": seen, "unread": unread}


def answers(predictor: Predictor, found: Iterator[Path | Answer], top: int, at_once: int) -> Iterator[Answer]:
    """The answers about all pictures, in their order, ``at_once`` of them in memory."""
    while part := list(itertools.islice(found, at_once)):
        said = iter(predictor([each for each in part if isinstance(each, Path)], top))
        for each in part:
            yield next(said) if isinstance(each, Path) else each


def pictures(given: Sequence[Path]) -> Iterator[Path | Answer]:
    """The files of ``given`` as they are, and the pictures of its folders, sorted by name, one folder in memory.

    Hidden files, and links to folders, which may lead in circles, are left out. A folder that cannot be listed, or that
    lets nobody look at what it lists, is answered with the error.
    """
    for path in given:
        waiting = [path]
        while waiting:
            here = waiting.pop()
            try:
                inner = None if not here.is_dir() or (here != path and here.is_symlink()) else _listed(here)
            except OSError as error:
                yield Answer(here, (), f"{here} could not be looked at ({error.strerror or first_line(error)})")
                continue
            if inner is None:
                yield here
            else:
                waiting += inner


def _listed(folder: Path) -> list[Path]:
    """Pictures and folders in one folder, the first by name last."""
    with os.scandir(folder) as entries:
        kept = [
            entry.name
            for entry in entries
            if not entry.name.startswith(".")
            and (
                entry.is_dir(follow_symlinks=False)
                or (os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and not entry.is_dir())
            )
        ]
    return [folder / name for name in sorted(kept, key=os.fsencode, reverse=True)]
