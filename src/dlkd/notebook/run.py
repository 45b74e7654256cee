"""A finished run, to be looked at."""

from __future__ import annotations

import csv
import html
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor, nn

from dlkd.data import FilePixels
from dlkd.data.pixels import upright_rgb
from dlkd.errors import UserError
from dlkd.evaluate.figures import NAMES
from dlkd.export.graph import WithInputFormat
from dlkd.export.student import Student, read_student
from dlkd.models.registry import resolve_name
from dlkd.run_folder import RESULTS
from dlkd.train.log import METRICS

REPORT = "report.html"
SHOWN = ("accuracy", "balanced_accuracy", "ece")
"""Figures in a notebook's cell; the others are in the report."""


@dataclass(frozen=True)
class Run:
    """What ``dlkd distill`` or ``dlkd train`` left in a folder.

    Args:
        folder: its ``--out``.
    """

    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        """The content of ``results.json``.

        Raises:
            UserError: the run is not finished, or the file is damaged.
        """
        file = Path(self.folder) / RESULTS
        try:
            return dict(json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"expected a finished run in {self.folder}, but could not read {file}") from error

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch, as in ``metrics.csv``; what was not measured in an epoch is left out."""
        with (Path(self.folder) / METRICS).open(newline="") as file:
            return [{key: float(of) for key, of in row.items() if of} for row in csv.DictReader(file)]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the logits, in order."""
        return self._read().class_names

    @property
    def student(self) -> nn.Module:
        """The trained model: images ``[B, channels, H, W]`` in [0, 1] → logits ``[B, classes]``.

        In eval mode, on the CPU, its normalisation within it; read anew each time.

        Raises:
            UserError: the run is not finished, or its student was an object of another Python session.
        """
        loaded = self._read().loaded
        return WithInputFormat(loaded.module, loaded.input_format).eval()

    def image(self, picture: Image.Image | str | Path) -> Tensor:
        """A picture as :attr:`student` wants it: ``[1, channels, H, W]`` in [0, 1], cut as test images were.

        Raises:
            UserError: the file cannot be read.
        """
        if not isinstance(picture, Image.Image):
            picture = FilePixels([Path(picture)], Path()).load(0)
        return self._read().preprocessing.image(upright_rgb(picture))[None]

    def _read(self) -> Student:
        name = str(self.results["student"])
        # Who has a run in a notebook has named the code of its student already.
        return read_student(Path(self.folder), name if resolve_name(name).source == "factory" else None)

    def show(self, height: int = 700) -> None:
        """The report: in a notebook as a cell's output, elsewhere its place.

        Args:
            height: of the cell, in pixels.
        """
        page = Path(self.folder) / REPORT
        if not page.is_file():
            raise UserError(f"{self.folder} has no {REPORT}; the run was told to make none")
        if not _in_notebook():
            print(page.resolve().as_uri())
            return
        from IPython.display import HTML, display

        source = html.escape(page.read_text(encoding="utf-8"), quote=True)
        # Sandboxed: the report needs no script, and a notebook trusts whatever runs in it.
        frame = f'<iframe sandbox srcdoc="{source}" style="width:100%;height:{int(height)}px;border:0"></iframe>'
        display(HTML(f"<div>{frame}</div>"))  # of a bare frame IPython warns

    def _repr_html_(self) -> str:
        results = self.results
        part = "test" if "test" in results else "held_out"
        columns = {"student": results[part]}
        if "teacher" in results:
            columns["teacher"] = results["teacher"][part]
        if "baseline" in results:
            columns["student alone"] = {"accuracy": results["baseline"]["accuracy"]}
        head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
        rows = "".join(
            f"<tr><td>{html.escape(NAMES[k])}</td>"
            + "".join(f"<td>{of[k]:.2f}</td>" if k in of else "<td></td>" for of in columns.values())
            + "</tr>"
            for k in SHOWN
        )
        return f"<table><tr>{head}</tr>{rows}</table><p>{html.escape(str(self.folder))}</p>"


def _in_notebook() -> bool:
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
