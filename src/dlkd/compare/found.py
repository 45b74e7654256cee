"""What finished cells left, and whether they may stand in one table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from dlkd.arrays import read_arrays
from dlkd.compare.final import FINAL, FINAL_PREDICTIONS
from dlkd.compare.study import WHERE, Cell
from dlkd.compare.work import failure, mend
from dlkd.errors import UserError
from dlkd.jobs.as_begun import read_json
from dlkd.jobs.card import CONFIG, INVOCATION, PREDICTIONS, plain
from dlkd.methods.label_terms import USED
from dlkd.run_folder import MARKER, RESULTS
from dlkd.train.auto import as_recorded

FIGURES: dict[str, tuple[str, ...]] = {
    "held_out": ("held_out", "accuracy"),
    "held_out_clean": ("held_out_clean", "accuracy"),
    "test": ("test", "accuracy"),
    "ece": ("held_out", "ece"),
    "nll": ("held_out", "nll"),
    "aurc": ("held_out", "aurc"),
    "wrong_label": ("memorisation", "train", "wrong_label"),
    "true_label": ("memorisation", "train", "true_label"),
    "teacher": ("teacher", "held_out", "accuracy"),
    "seconds": ("seconds",),
}
"""Figure → where it stands in the ``results.json`` of a run; those of held-out images with their labels as given."""


class Answers(NamedTuple):
    """Of one student, image by image."""

    right: dict[str, np.ndarray]
    """By figure of :data:`COMPARED`: bool ``[N]``."""
    distance: np.ndarray | None
    """Of the held-out images, where the run knew it."""


class Found(NamedTuple):
    """One finished cell."""

    cell: Cell
    figures: dict[str, float]
    answers: Answers
    results: dict[str, Any]
    learnt_from: tuple[str, ...]
    """Digests of its training images and their labels."""


def read_cells(cells: Sequence[Cell]) -> list[Found]:
    """What the finished ones among the cells left.

    Raises:
        UserError: one was run with other settings, or is damaged; two that share their options of the data learnt from
            different images or labels, so that nothing about them is paired.
    """
    found = [_read(cell) for cell in cells if (cell.options.out / RESULTS).is_file()]
    first: dict[tuple[int, str], Found] = {}
    for each in found:
        cell = each.cell
        other = first.setdefault((cell.seed, repr(_of_data(plain(cell.options.data)))), each)
        if other.learnt_from != each.learnt_from:
            raise UserError(
                f"{cell.row} and {other.cell.row}, seed {cell.seed}, have the same options, but learnt from different "
                f"images or labels; give --data.root and --data.noise_file as before, or delete {cell.options.out} or "
                f"{other.cell.options.out}"
            )
    return found


def _read(cell: Cell) -> Found:
    folder = cell.options.out
    _check_same(cell)
    results = _json(folder / RESULTS)
    if (folder / FINAL).is_file():
        results["test"] = _json(folder / FINAL)
    try:
        figures = {name: value for name, path in FIGURES.items() if (value := _at_path(results, path)) is not None}
        whole = all(map(math.isfinite, figures.values())) and "held_out" in figures
        whole = whole and isinstance(results.get("method"), dict)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise UserError(_damaged(folder / RESULTS))
    card = _json(folder / MARKER).get("data")
    if not isinstance(card, dict):
        raise UserError(_damaged(folder / MARKER))
    return Found(cell, figures, _answers(folder), results, tuple(str(card.get(part)) for part in ("images", "labels")))


def reason_of(cell: Cell) -> str:
    """Why a cell could not be run."""
    return str(_json(failure(cell)).get("reason"))


def _check_same(cell: Cell) -> None:
    """A finished cell must be of the settings that are asked for now; where the data lie does not count."""
    file = cell.options.out / CONFIG
    try:
        page = yaml.safe_load(file.read_text())
        before, asked = _that_counts(page), as_recorded(cell.options, page)
    except Exception as error:  # PyYAML raises AttributeError, KeyError and IndexError for tags that do not fit
        raise UserError(_damaged(file)) from error
    for key, value in _that_counts(plain(asked)).items():
        if value == before.get(key):
            continue
        raise UserError(
            f"{cell.row}, seed {cell.seed} was run with another --{key}; give the method or condition another name, or "
            f"delete {cell.options.out}"
        )


def _that_counts(page: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options of a run, those that decide what comes out but for its rounding."""
    apart = (*INVOCATION, "seed", "store", "device")
    return {key: value for key, value in page.items() if key not in apart} | {
        "data": _of_data(page["data"]),
        "label": _of_label(page["label"]),
        "engine": page["engine"]["precision"],
        "storage": {k: v for k, v in page["storage"].items() if k != "probe_logits"},
    }


def _of_data(page: Mapping[str, Any]) -> dict[str, Any]:
    """Which images and labels, but for where they lie."""
    return {key: value for key, value in page.items() if key not in WHERE}


def _of_label(page: Mapping[str, Any]) -> dict[str, Any]:
    """The label term, and what it reads."""
    return {key: page[key] for key in ("term", *sorted(USED.get(page["term"], ())))}


def _answers(folder: Path) -> Answers:
    right: dict[str, np.ndarray] = {}
    distance = None
    for file in (PREDICTIONS, FINAL_PREDICTIONS):
        if not (folder / file).is_file():
            continue
        try:
            values = read_arrays(folder / file)
            for part in ("held_out", "test"):
                if f"{part}_predicted" in values:
                    right[part] = _equal(values[f"{part}_predicted"], values[f"{part}_labels"])
                if f"{part}_clean" in values:
                    right[f"{part}_clean"] = _equal(values[f"{part}_predicted"], values[f"{part}_clean"])
            distance = values.get("held_out_distance", distance)
            if distance is not None and not (distance.ndim == 1 and np.isfinite(distance).all()):
                raise ValueError("no distances")
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(_damaged(folder / file)) from error
    return Answers(right, distance)


def _equal(predicted: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """``[N]``: where the class is the label."""
    if predicted.ndim != 1 or not predicted.size or predicted.shape != labels.shape:
        raise ValueError("its arrays do not fit together")
    return np.asarray(predicted == labels)


def _at_path(results: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = results
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def _mend(file: Path) -> str:
    """What to do about a damaged file: of a run its folder, of what was made of it that file."""
    made_again = file if file.name in (FINAL, FINAL_PREDICTIONS) or file.name.endswith(".failed.json") else file.parent
    return mend(made_again)


def _damaged(file: Path) -> str:
    return f"{file} is damaged; {_mend(file)}"


def _json(file: Path) -> dict[str, Any]:
    return read_json(file, _mend(file))
