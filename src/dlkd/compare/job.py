"""``dlkd compare``: run the cells, read the test images if told to, write the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dlkd.compare.collect import collect
from dlkd.compare.final import check_ledger, read_test_images
from dlkd.compare.found import reason_of
from dlkd.compare.names import check_folder
from dlkd.compare.render import csv_text, latex, markdown
from dlkd.compare.study import Cell, CompareOptions, plan
from dlkd.compare.tables import flat, headline, parts, print_tables, sentences, together
from dlkd.compare.work import failure, finished, run_cells
from dlkd.errors import UserError, first_few
from dlkd.files import write_atomic, write_json
from dlkd.report import Page, Picture, pictures


def compare(options: CompareOptions) -> dict[str, Any]:
    """Run what is not finished; returns the content of ``results.json``.

    Raises:
        UserError: options that no run would take; cells that could not be run, once all others have been.
        Interrupted: told to stop; the same command goes on.
    """
    cells = plan(options)
    if options.final and options.ledger is None:
        raise UserError("expected --ledger FILE with --final, where every reading of the test images is noted")
    check_folder(options.out, "compare")
    if options.ledger is not None:
        check_ledger(options.ledger, options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.collect:
        left = sum(not finished(cell) for cell in cells)
        print(f"{len(cells)} cells, {left} to be run", flush=True)
        run_cells(cells, options.workers)
    if options.final and all(map(finished, cells)):
        assert options.ledger is not None
        print(f"{read_test_images(cells, options.ledger)} students were scored on the test images", flush=True)
    found = collect(options, cells)
    write(options, found)
    print_tables(found)
    print(f"Report: {options.out / 'report.html'}")
    _say_what_is_missing(cells, final=options.final)
    return found


def _say_what_is_missing(cells: list[Cell], *, final: bool) -> None:
    left = [cell for cell in cells if not finished(cell)]
    failed = [cell for cell in left if failure(cell).is_file()]
    unread = "; the test images were not read, which is done once, for all cells" if final and left else ""
    if failed:
        reasons = [f"{c.row} seed {c.seed}: {reason_of(c)}" for c in failed]
        raise UserError(f"{len(failed)} cells could not be run: {first_few(reasons)}{unread}")
    if unread:
        raise UserError(f"expected all cells to be finished for --final, but {len(left)} are not{unread}")


def write(options: CompareOptions, found: Mapping[str, Any]) -> None:
    """``results.json``, ``results.csv``, ``table.md``, ``table.tex`` and ``report.html``."""
    out, tables = options.out, parts(found)
    write_json(out / "results.json", found)
    write_atomic(out / "results.csv", csv_text(*flat(found)))
    write_atomic(out / "table.md", "\n".join(f"### {t.title}\n\n{markdown(t.columns, t.rows)}\n" for t in tables))
    write_atomic(out / "table.tex", "\n".join(f"% {t.title}\n{latex(t.columns, t.rows)}\n" for t in tables))
    write_atomic(out / "report.html", report(found))


def report(found: Mapping[str, Any]) -> str:
    """The page: every row, accuracies with their spread, and by tenths of the difficulty."""
    table = together(parts(found))
    shown: list[Picture] = []
    for place in dict.fromkeys((row["pair"], row["condition"]) for row in found["rows"]):
        rows = [r for r in found["rows"] if (r["pair"], r["condition"]) == place and r["seeds"]]
        if not rows:
            continue
        head, title = headline(rows), " / ".join(name for name in place if name != "all") or "Accuracy"
        of = [row["figures"][head] for row in rows]
        drawn = pictures.means(
            [row["method"] for row in rows],
            [f["mean"] for f in of],
            [f["sd"] or 0.0 for f in of],
            {"test": "test accuracy, %"}.get(head, "held-out accuracy, %"),
        )
        shown.append(Picture(title, drawn, "Mean ± one standard deviation over seeds."))
        if any(row["deciles"] for row in rows):
            tenths = {
                row["method"]: [
                    {"decile": k + 1, "accuracy": tenth["accuracy"]} for k, tenth in enumerate(row["deciles"])
                ]
                for row in rows
                if row["deciles"]
            }
            words = "Held-out images in tenths of their difficulty, easiest first."
            shown.append(Picture(f"{title}, by difficulty", pictures.accuracy_by_level(tenths), words))
    return Page(
        title=table.title,
        lead=f"{len(found['rows'])} rows, {len(found['seeds'])} seeds; "
        f"the baseline is {found['baseline']}, ours are {', '.join(found['ours']) or 'none'}.",
        columns=table.columns,
        rows=table.rows,
        sentences=sentences(found),
        pictures=shown,
        details={"results.json": json.dumps(found, indent=2)},
    ).render()
