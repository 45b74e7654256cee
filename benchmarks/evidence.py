"""Renew the tables of measured results in the pages, from the files in results/: python benchmarks/evidence.py

A table stands between `<!-- KIND FILE ... -->` and `<!-- end -->`:

    <!-- means weights.json -->           methods by conditions, the accuracy that counts
    <!-- means weights.json held_out -->  the same of another figure
    <!-- part mapping.json sym40 -->      everything about one condition
    <!-- quickstart quickstart.json -->   the rows of `make quickstart`
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlkd.compare.render import markdown
from dlkd.compare.tables import NOT_RUN, headline, parts, spread
from dlkd.files import write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PAGES = (ROOT / "README.md", ROOT / "docs" / "evidence.md")
BLOCK = re.compile(r"(<!-- (means|part|quickstart) (\S+)((?: \S+)*) -->\n).*?(<!-- end -->)", re.DOTALL)
Found = Mapping[str, Any]


def means(found: Found, figure: str = "") -> str:
    """Methods by conditions: mean ± sd over seeds."""
    places = list(dict.fromkeys((row["pair"], row["condition"]) for row in found["rows"]))
    methods = list(dict.fromkeys(row["method"] for row in found["rows"]))
    lines = [[method] for method in methods]
    for place in places:
        rows = {row["method"]: row for row in found["rows"] if (row["pair"], row["condition"]) == place}
        shown = figure or headline(list(rows.values()))
        for line, method in zip(lines, methods, strict=True):
            of = rows[method]["figures"].get(shown)
            line.append(NOT_RUN if of is None else spread(of))
    columns = ["method", *(" / ".join(name for name in place if name != "all") for place in places)]
    return markdown(columns, lines)


def part(found: Found, title: str) -> str:
    """Everything about one condition."""
    wanted = next((each for each in parts(found) if each.title == title), None)
    if wanted is None:
        raise SystemExit(f"expected one of {[each.title for each in parts(found)]}, but got {title}")
    return markdown(wanted.columns, wanted.rows)


TEACHERS = {"none": "–", "clean": "clean labels (an oracle)", "noisy": "the same noisy labels"}


def quickstart(found: Found) -> str:
    """The students of ``make quickstart``."""
    students = [row for row in found["summary"]["table"] if row["method"] != "teacher"]
    rows = [[TEACHERS[row["teacher"]], row["method"], spread(row)] for row in students]
    return markdown(["teacher trained on", "method", "test accuracy %"], rows, "llr")


KINDS: dict[str, Callable[..., str]] = {"means": means, "part": part, "quickstart": quickstart}


def renewed(text: str, results: Path = RESULTS) -> str:
    """The text of a page with every table as its file says."""

    def table(block: re.Match[str]) -> str:
        start, kind, file, rest, end = block.groups()
        return f"{start}{KINDS[kind](json.loads((results / file).read_text()), *rest.split())}{end}"

    return BLOCK.sub(table, text)


def main() -> None:
    """Renew all pages."""
    for page in PAGES:
        write_atomic(page, renewed(page.read_text()))


if __name__ == "__main__":
    main()
