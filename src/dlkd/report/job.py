"""``dlkd report``: one run or many in one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlkd.errors import UserError
from dlkd.files import check_new_file, write_atomic
from dlkd.report.gallery import Opened, open_images
from dlkd.report.runs import Run, read_runs
from dlkd.report.same import common_part, remarks
from dlkd.report.side_by_side import side_by_side


@dataclass(frozen=True)
class ReportOptions:
    """Put runs side by side in one page that opens offline.

    Attributes:
        runs: folders of dlkd train and dlkd distill.
        out: page to write, .html.
        baseline: the run that others are compared with; by default the first that learnt from labels alone, else the
            first.
        images: so many images of each kind are shown; 0 leaves them out.
        overwrite: replace an earlier page.
    """

    runs: list[Path] = field(default_factory=list)
    out: Path = Path("report.html")
    baseline: Path | None = None
    images: int = 8
    overwrite: bool = False

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if not self.runs:
            raise UserError("expected folders of runs, but got none; as in dlkd report runs/student runs/baseline")
        if self.out.suffix != ".html":
            raise UserError(f"expected --out to end with .html, but got {self.out}")
        if not 0 <= self.images <= 1000:
            raise UserError(f"expected --images to be between 0 and 1000, but got {self.images}")
        check_new_file(self.out, overwrite=self.overwrite)


def report(options: ReportOptions) -> dict[str, Any]:
    """Write the page; returns what is on it in short.

    Raises:
        UserError: whatever the user can mend, in one line; nothing is written then.
    """
    options.check()
    added = [] if options.baseline is None else [options.baseline]
    runs = read_runs([*options.runs, *added])
    baseline = _baseline(runs, options.baseline)
    part = common_part(runs)
    opened = open_images(runs, part) if options.images else Opened(None)
    write_atomic(options.out, side_by_side(runs, baseline, part, opened, options.images))
    said = list(remarks(runs, baseline, part))
    if opened.reason:
        said.append(f"the images cannot be shown: {opened.reason}")
    for line in said:
        print(f"note: {line}")
    print(f"{len(runs)} runs side by side: {options.out}")
    return {
        "out": options.out,
        "baseline": baseline.name,
        "scored_on": part,
        "runs": {run.name: dict(run.figures_of(part)) for run in runs},
        "remarks": said,
    }


def _baseline(runs: Sequence[Run], asked: Path | None) -> Run:
    if asked is not None:
        return next(run for run in runs if run.folder.resolve() == asked.resolve())
    return next((run for run in runs if run.alone), runs[0])
