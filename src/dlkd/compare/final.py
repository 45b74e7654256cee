"""The test images, which a comparison opens when it is told to, and writes down that it did."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from dlkd.arrays import write_arrays
from dlkd.compare.study import Cell
from dlkd.compare.work import mend
from dlkd.data import DataOptions, DataSet, load_data
from dlkd.errors import UserError, first_line
from dlkd.evaluate import check_finite, figures, logits_of
from dlkd.files import held, write_json
from dlkd.jobs.results import predictions
from dlkd.models import CheckpointError, load_model

FINAL, FINAL_PREDICTIONS = "final.json", "final.npz"
"""Figures on the test images and what the student says of each, in the folder of a cell."""


def read_test_images(cells: Sequence[Cell], ledger: Path) -> int:
    """Score the students of cells, all of them finished, on the test images, but for those that were; returns how many.

    The ledger is written first: no reading goes unnoted.

    Raises:
        UserError: the ledger cannot be written, or a student is damaged.
    """
    new = [cell for cell in cells if not (cell.options.out / FINAL).is_file()]
    if not new:
        return 0
    _note(new, ledger)
    data: dict[str, DataSet] = {}
    for cell in new:
        key = repr(cell.options.data)
        if key not in data:
            data = {key: load_data(cell.options.data)}
            for remark in data[key].remarks:  # of test images that are training images too, say
                print(f"note: {remark}", flush=True)
        _score(cell, data[key])
    return len(new)


def check_ledger(ledger: Path, out: Path) -> None:
    """Raise UserError where the ledger could not be written, or would be overwritten; before hours of work."""
    if not ledger.name or ledger.is_dir():
        raise UserError(f"expected --ledger to be a file, but got {ledger}; as in --ledger results/ledger.jsonl")
    if ledger.resolve().parent == out.resolve() and ledger.suffix != ".jsonl":
        raise UserError(f"expected --ledger to end with .jsonl in --out {out}, whose other files are written anew")


def _note(cells: Sequence[Cell], ledger: Path) -> None:
    entry = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "students": len(cells),
        "rows": sorted({cell.row for cell in cells}),
        "seeds": sorted({cell.seed for cell in cells}),
        "data": sorted({cell.options.data.name for cell in cells}),
        "noise": sorted({_noise(cell.options.data) for cell in cells}),
        "teachers": sorted({name for cell in cells for name in _teachers(cell)}),
    }
    ledger = ledger.parent.resolve() / ledger.name  # the folder may be a link
    try:
        ledger.parent.mkdir(parents=True, exist_ok=True)
        with held(ledger.with_name(f".{ledger.name}.lock"), wait=True), ledger.open("a") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except (OSError, NotImplementedError) as error:  # the second where there are no locks
        raise UserError(
            f"could not write the ledger {ledger}: {getattr(error, 'strerror', '') or first_line(error)}"
        ) from error


def _noise(data: DataOptions) -> str:
    return "none" if data.noise == 0 and data.noise_file is None else f"{data.noise_kind} {data.noise:g}"


def _teachers(cell: Cell) -> Iterator[str]:
    """Their names, or those of the folders that they lie in; paths are of a machine."""
    for source in cell.options.teacher.each():
        if source.name is not None or source.weights is not None:
            yield source.name or Path(str(source.weights)).name


def _score(cell: Cell, data: DataSet) -> None:
    folder, test = cell.options.out, data.test
    try:
        loaded = load_model(None, folder, len(test.class_names), channels=test.pixels.channels)
    except CheckpointError as error:
        raise UserError(f"{error}; {mend(folder)}") from error
    side: Any = loaded.card.get("image_size")
    device = torch.device("cuda" if torch.cuda.is_available() and cell.options.device != "cpu" else "cpu")
    logits, labels = logits_of(loaded.module.to(device), test, loaded.input_format, side)
    check_finite(logits, test.ids, "trained student")
    write_arrays(folder / FINAL_PREDICTIONS, predictions("test", logits, test, data), compressed=True)
    write_json(folder / FINAL, figures(logits, labels))
