"""``dlkd doctor``: look at everything, say what to do, end with 1 where something is broken."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from dlkd.doctor.line import Line, Status
from dlkd.errors import Verdict, first_line


@dataclass(frozen=True)
class DoctorOptions:
    """Look whether everything is here that a run needs: versions, devices, room on the disk, and a small run.

    Attributes:
        out: folder in which results are to go; nothing is left in it.
        device: for the small run: auto, cpu, cuda, cuda:1, mps.
        self_test: train, distil and evaluate on the bundled digits, in a temporary folder.
    """

    out: Path = Path("runs")
    device: str = "auto"
    self_test: bool = True


def doctor(options: DoctorOptions) -> dict[str, Any]:
    """Print a line for everything, and return them; no names of machines or people are among them.

    Raises:
        Verdict: something is broken.
    """
    started, lines = time.monotonic(), []
    versions: dict[str, str | None] = {}

    def say(found: list[Line]) -> None:
        lines.extend(found)
        print(*found, sep="\n", flush=True)

    # Imported one by one: what is broken is said by the doctor, not by Python.
    try:
        installed = import_module("dlkd.doctor.installed")
        required = installed.requirements()
        versions = installed.versions(required)
        say(installed.look(required))
    except Exception as error:  # the package's own description is damaged, or packaging is missing
        advice = "install dlkd again: pip install --force-reinstall dlkd"
        say([Line("version", f"what dlkd needs cannot be read: {first_line(error)}", "problem", advice)])
    say(import_module("dlkd.doctor.places").look(options.out))
    say(_looked("device", "dlkd.doctor.devices"))
    if options.self_test:
        say(_looked("test", "dlkd.doctor.self_test", options.device))
    counts = Counter(line.status for line in lines)
    found = {
        "ok": not counts["problem"],
        "problems": counts["problem"],
        "notes": counts["note"],
        "versions": versions,
        "lines": [asdict(line) for line in lines],
        "seconds": time.monotonic() - started,
    }
    print(_verdict(counts))
    if counts["problem"]:
        raise Verdict(found)
    return found


def _looked(part: Any, module: str, *arguments: str) -> list[Line]:
    try:
        lines: list[Line] = import_module(module).look(*arguments)
    except Exception as error:  # a broken library raises whatever it likes
        what = f"could not be looked at: {type(error).__name__}: {first_line(error)}"
        return [Line(part, what, "problem", "mend the problems above first")]
    return lines


def _verdict(counts: Counter[Status]) -> str:
    if counts["problem"]:
        return f"{counts['problem']} of {counts.total()} are problems; mend them from the top"
    notes = f"; the {counts['note']} notes are no faults" if counts["note"] else ""
    return f"All is well{notes}. Next: dlkd quickstart, or dlkd train --help"
