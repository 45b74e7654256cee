"""What was exported, for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlkd.errors import printable


def print_export(record: Mapping[str, Any], out: Path) -> None:
    """Print what :func:`dlkd.export.job.export` found."""
    console = Console()
    table = Table("exported", "value", title=Text(printable(str(out / record["file"]))))
    for name, value in _rows(record):
        table.add_row(Text(name), Text(printable(value)))
    console.print(table)
    if "benchmark" in record:
        console.print(_latency(record["benchmark"]))
        for remark in record["benchmark"]["remarks"]:
            print(f"note: {printable(remark)}")
    if record["check"] is None:
        print("note: nothing was checked; leave --check_images 0 out to compare the file with the student")


def _rows(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("student", record["model"]), ("parameters", f"{record['parameters']:,}")]
    rows.append(("size, MB", f"{record['files'][record['file']] / 1e6:.3f}"))
    if record["check"] is not None:
        rows += _checked(record["check"])
    if "int8" in record:
        int8 = record["int8"]
        rows.append((f"int8 ({int8['file']}): size, MB", f"{int8['bytes'] / 1e6:.3f}"))
        rows.append(("  calibrated on training images", str(int8["calibration_images"])))
        if int8["check"] is not None:
            rows.append(("  accuracy of int8 file, %", f"{int8['check']['exported_accuracy']:.2f}"))
            rows.append(("  top-1 agreement with the student, %", f"{int8['check']['top1_agreement']:.2f}"))
    return rows


def _checked(check: Mapping[str, Any]) -> list[tuple[str, str]]:
    words = {"test": "test", "held_out": "held-out"}[check["split"]]
    return [
        (f"checked on {words} images", str(check["images"])),
        ("  largest difference of a logit", f"{check['max_difference']:.2g}"),
        ("  mean difference", f"{check['mean_difference']:.2g}"),
        ("  top-1 agreement, %", f"{check['top1_agreement']:.2f}"),
        ("  accuracy of the student, %", f"{check['student_accuracy']:.2f}"),
        ("  accuracy of the exported file, %", f"{check['exported_accuracy']:.2f}"),
    ]


def _latency(found: Mapping[str, Any]) -> Table:
    """By the number of images at once."""
    table = Table("model", "runs in", title=f"Time in ms on the CPU, threads: {found['threads']}")
    table.add_column("MB", justify="right")
    for size in found["batches"]:
        table.add_column(f"median, {size}", justify="right")
        table.add_column(f"p95, {size}", justify="right")
    for row in found["rows"]:
        values = [row[f"{what}_ms_{size}"] for size in found["batches"] for what in ("median", "p95")]
        table.add_row(row["model"], row["engine"], f"{row['megabytes']:.3f}", *(f"{v:.3g}" for v in values))
    return table
