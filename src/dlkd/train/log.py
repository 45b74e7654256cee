"""Progress on the screen, figures in CSV files and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import perf_counter, time
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dlkd.errors import UserError
from dlkd.files import write_atomic

METRICS = "metrics.csv"
BY_LEVEL = "metrics_by_level.csv"


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """All rows in one file, replaced whole: a killed writer leaves the file before."""
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, buffer.getvalue())


class Board:
    """Figures for TensorBoard, or nothing. The file of an earlier process is replaced by one with its ``history``.

    Written at once and by ourselves: TensorBoard's writer does it in a thread, where a full disk is a traceback,
    and puts the name of the machine into that of the file.
    """

    def __init__(self, folder: Path | None, history: list[dict[str, Any]]) -> None:
        self.file = None if folder is None else folder / "tensorboard" / "events.out.tfevents.dlkd"
        if self.file is not None:
            self._append([{"file_version": "brain.Event:2"}], "wb")
        for row in history:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        """The figures of an epoch."""
        values = [{"tag": name, "simple_value": float(value)} for name, value in row.items() if value is not None]
        self._append([{"step": row["step"], "summary": {"value": [value]}} for value in values], "ab")

    def _append(self, events: list[dict[str, Any]], mode: Literal["wb", "ab"]) -> None:
        if self.file is None:
            return
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        buffer = io.BytesIO()
        writer = RecordWriter(buffer)
        for event in events:
            writer.write(Event(wall_time=time(), **event).SerializeToString())
        try:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open(mode) as file:
                file.write(buffer.getvalue())
        except OSError as error:
            raise UserError(f"could not write {self.file}: {error.strerror}; is the disk full?") from error


class Waits:
    """Passes items on and measures how long they were waited for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start a new measurement."""
        self.waited, self.started, self.images = 0.0, perf_counter(), 0

    def over(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The same items."""
        iterator = iter(batches)
        while True:
            before = perf_counter()
            item = next(iterator, None)
            self.waited += perf_counter() - before
            if item is None:
                return
            yield item

    def figures(self) -> dict[str, float]:
        """Images per second and the share of the time that was spent waiting for data."""
        elapsed = max(perf_counter() - self.started, 1e-9)
        return {"images_per_second": self.images / elapsed, "data_wait": self.waited / elapsed}


class Screen:
    """A progress bar where there is a terminal, one line an epoch everywhere."""

    def __init__(self, title: str, total: int, done: int, *, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self.progress = Progress(
            TextColumn(title, markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.progress.add_task(title, total=total, completed=done, speed="")

    def __enter__(self) -> Screen:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def step(self, done: int, waits: Waits) -> None:
        """Move the bar."""
        if self.progress.disable:
            return
        figures = waits.figures()
        speed = f"{figures['images_per_second']:.0f} images/s, {100 * figures['data_wait']:.0f} % waiting for data"
        self.progress.update(self.task, completed=done, speed=speed)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One line with the figures of an epoch."""
        shown = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.3f}"]
        if row.get("accuracy") is not None:
            shown.append(f"train {row['accuracy']:.1f} %")
        if row.get("held_out_accuracy") is not None:
            shown.append(f"held out {row['held_out_accuracy']:.1f} %")
        if row.get("temperature"):
            shown.append(f"T {row['temperature']:.2f}")
        shown.append(f"{row['images_per_second']:.0f} images/s, {100 * row['data_wait']:.0f} % waiting")
        self.console.print("  " + ", ".join(shown), soft_wrap=True, highlight=False)
