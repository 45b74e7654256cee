"""What a finished run left in its folder, checked, so that whoever shows it need not."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dlkd.arrays import read_arrays
from dlkd.errors import UserError, first_line, printable
from dlkd.jobs.card import INVOCATION, PREDICTIONS
from dlkd.models.trained import STUDENT_FILE
from dlkd.regular import read_regular
from dlkd.report.words import Measure, measure_of
from dlkd.run_folder import CARD_BYTES, MARKER, RESULTS, made_by, unfinished
from dlkd.train.log import METRICS

Part = Literal["test", "held_out"]
PARTS: tuple[Part, ...] = ("test", "held_out")
LARGEST = 1e30
"""Beyond it nothing can be drawn."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What was said of each of N images, ``[N]`` each."""

    ids: Ints
    labels: Ints
    """The true ones, where labels as given are known to be wrong."""
    predicted: Ints
    confidence: Floats
    teacher: Ints | None
    """What the teacher says; None for a run without one, and for older runs. So for what follows."""
    teacher_confidence: Floats | None
    distance: Floats | None
    level: Floats | None
    temperature: Floats | None

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Where the student names the label."""
        return np.equal(self.predicted, self.labels)

    @property
    def hardness(self) -> Floats | None:
        """By which images are put in order: the level, or of an older run the distance; larger is harder."""
        return self.distance if self.level is None else self.level


@dataclass(frozen=True)
class Run:
    """One finished run of ``dlkd train`` or ``dlkd distill``."""

    folder: Path
    name: str
    """Short, and of this run alone among those that are shown."""
    command: str
    method: str
    student: str
    seed: int
    epochs: int
    device: str
    numbers: Mapping[str, float]
    """parameters, seconds, threads, file_bytes, estimated_seconds, as far as they are known."""
    figures: Mapping[str, Mapping[str, float]]
    """By part, and ``held_out_clean``."""
    teacher: Mapping[str, Mapping[str, float]]
    """The figures of the teacher by part."""
    reliability: Sequence[Mapping[str, float]]
    by_level: Sequence[Mapping[str, float]]
    measure: Measure
    """What difficulty is."""
    scored_on: str
    """The part that reliability and tenths are of."""
    images: Mapping[str, str]
    """A digest of the images by part; empty for an older run."""
    data: Mapping[str, Any]
    """Of the run card: data, images, labels, noise, samples, classes, held_out, test."""
    settings: str
    """All options but the seed and what says nothing of the student, as JSON."""
    class_names: tuple[str, ...]
    history: Sequence[Mapping[str, float]]
    answers: Mapping[str, Answers]
    """By part; empty for an older run."""

    @property
    def alone(self) -> bool:
        """Learnt from labels alone?"""
        return self.command == "train" or self.method == "ce"

    def figures_of(self, part: Part) -> Mapping[str, float]:
        """By the true labels, where those as given are known to be wrong."""
        return self.figures.get(f"{part}_clean", self.figures[part])


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in their order, each folder once.

    Raises:
        UserError: a folder is no finished run, or it is damaged.
    """
    try:
        once = list({folder.resolve(): folder for folder in folders}.values())
    except (OSError, RuntimeError, ValueError) as error:  # of a link to itself, a name with a zero byte
        raise UserError(f"could not follow the way to a run: {first_line(error)}") from error
    return [read_run(folder, name) for folder, name in zip(once, short_names(once), strict=True)]


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    most = max(map(len, parts), default=1)
    for count in range(1, most + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return [readable(name) for name in names] if parts else []


def readable(text: str) -> str:
    """``text`` that can be drawn and written: bytes of a file name that are no text are spelt out."""
    return printable(text.encode(errors="backslashreplace").decode())


def read_run(folder: Path, name: str) -> Run:
    """See :func:`read_runs`."""
    if not folder.is_dir():
        what = "that is a file" if folder.exists() else "there is nothing"
        raise UserError(f"expected the folder of a run at {folder}, but {what}; give the --out of dlkd distill")
    if (todo := unfinished(folder)) is not None:
        raise UserError(todo)
    command = made_by(folder)
    if command not in ("train", "distill") or not (folder / RESULTS).is_file():
        found = f"one of dlkd {command}" if command else "no run"
        raise UserError(
            f"expected a run of dlkd train or dlkd distill in {folder}, but found {readable(found)}; give the folder "
            "of a run"
        )
    results, card, student = (_json(folder / file) for file in (RESULTS, MARKER, "student.json"))
    try:
        return _run(folder, name, command, results, card, student)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, csv.Error) as error:
        raise UserError(
            f"the run in {folder} is damaged ({type(error).__name__}: {first_line(error):.100}); run it again"
        ) from error


def _run(
    folder: Path, name: str, command: str, results: dict[str, Any], card: dict[str, Any], student: dict[str, Any]
) -> Run:
    figures = {part: _numbers(results[part]) for part in (*PARTS, "held_out_clean") if part in results}
    if not any(part in figures for part in PARTS):
        raise ValueError("there are no figures")
    if lost := [part for part, of in figures.items() if "accuracy" not in of]:
        raise ValueError(f"{RESULTS}: the accuracy of {lost[0]} is no number")
    teacher = results.get("teacher", {})
    data = {str(key): value for key, value in card["data"].items()}
    if none := [part for part in PARTS if part in figures and data.get(part) == 0]:
        raise ValueError(f"{MARKER}: there are no {none[0]} images, of which there are figures")
    classes = student.get("class_names") or range(int(data["classes"]))
    names = tuple(readable(str(each)) for each in classes)
    known = {**results, **card.get("preflight", {})}
    file = folder / STUDENT_FILE
    known |= {"file_bytes": file.stat().st_size} if file.is_file() else {}
    wanted = ("parameters", "seconds", "threads", "file_bytes", "estimated_seconds")
    return Run(
        folder=folder,
        name=name,
        command=command,
        method=readable(str(results["method"]["name"])),
        student=readable(str(results["student"])),
        seed=int(results["seed"]),
        epochs=int(results["epochs"]),
        device=readable(str(card.get("device", ""))),
        numbers=_numbers({key: known.get(key) for key in wanted}),
        figures=figures,
        teacher={part: _numbers(teacher[part]) for part in PARTS if part in teacher},
        reliability=_rows(results.get("reliability", ()), ("confidence", "accuracy")),
        by_level=_rows(results.get("by_level", ()), ("decile", "accuracy", "teacher_accuracy")),
        measure=measure_of(results["method"]),
        scored_on="test" if "test" in results else "held_out",
        images={part: str(digest) for part, digest in results.get("images", {}).items()},
        data=data,
        settings=_settings(card.get("settings")),
        class_names=names,
        history=_history(folder / METRICS),
        answers=_answers(folder / PREDICTIONS, len(names)),
    )


def _settings(options: object) -> str:
    if not isinstance(options, dict):
        return ""
    apart = {*INVOCATION, "seed", "store", "storage", "device", "engine"}
    counts = {key: value for key, value in options.items() if key not in apart}
    return json.dumps({**counts, "precision": options["engine"]["precision"]}, sort_keys=True)


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(read_regular(file, CARD_BYTES)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({first_line(error):.100}); run it again") from error


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers, and can be drawn."""
    return {
        str(key): float(value)
        for key, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
    }


def _rows(rows: Iterable[Mapping[str, Any]], needed: Sequence[str]) -> list[dict[str, float]]:
    found = [_numbers(row) for row in rows]
    return [row for row in found if all(name in row for name in needed)]


def _history(file: Path) -> list[dict[str, float]]:
    """A row for each epoch; none where the file is lost."""
    if not file.is_file():
        return []
    rows = csv.DictReader(io.StringIO(read_regular(file, CARD_BYTES).decode()))
    found = [{str(k): float(v) for k, v in row.items() if isinstance(v, str) and v} for row in rows]
    return _rows(found, ("epoch", "loss", "accuracy"))


def _answers(file: Path, classes: int) -> dict[str, Answers]:
    if not file.is_file():
        return {}
    arrays = read_arrays(file)
    return {part: _of_part(part, arrays, classes) for part in PARTS if f"{part}_predicted" in arrays}


def _of_part(part: Part, arrays: Mapping[str, npt.NDArray[Any]], classes: int) -> Answers:
    size = arrays[f"{part}_predicted"].shape

    def column(name: str, kind: str) -> Any:
        if (found := arrays.get(f"{part}_{name}")) is None:
            return None
        if found.shape != size or len(size) != 1 or found.dtype.kind not in kind:
            raise ValueError(f"{PREDICTIONS}: {part}_{name} is no column of {size} numbers")
        if kind == "iu" and name != "ids" and found.size and not 0 <= found.min() <= found.max() < classes:
            raise ValueError(f"{PREDICTIONS}: {part}_{name} names no class of {classes}")
        if kind == "f" and not np.isfinite(found).all():
            raise ValueError(f"{PREDICTIONS}: {part}_{name} is not finite")
        return found.astype(np.int64 if kind == "iu" else np.float64)

    if not np.prod(size):
        raise ValueError(f"{PREDICTIONS}: {part}_predicted is of no image")
    true = column("clean", "iu")
    labels = column("labels", "iu") if true is None else true
    needed = {"ids": column("ids", "iu"), "labels": labels, "predicted": column("predicted", "iu")}
    needed["confidence"] = column("confidence", "f")
    if lost := [name for name, values in needed.items() if values is None]:
        raise ValueError(f"{PREDICTIONS}: there is no {part}_{lost[0]}")
    more = {name: column(name, "f") for name in ("teacher_confidence", "distance", "level", "temperature")}
    return Answers(**needed, teacher=column("teacher", "iu"), **more)
