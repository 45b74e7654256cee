"""Bad input of every kind through the real command line: one line, exit status 2, nothing left and nothing lost.

    python benchmarks/bad_inputs.py --out results/bad_inputs.json
    python benchmarks/bad_inputs.py --table results/bad_inputs.json

Each case (``bad_input_cases``) has a folder of its own. It passes where the command ends with status 2 and exactly
one line on standard error, which begins with "dlkd: error: " and says what is wrong; where every file is as before; and
where it took less than a minute and a gigabyte.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bad_input_cases import CASES, Case, Place, sound_things

from dlkd.cli import main as dlkd
from dlkd.jobs.card import machine

SECONDS, MEGABYTES = 60, 1024
START = "dlkd: error: "
LIMITED = (
    "import resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))\nfrom dlkd.cli import main\nmain(sys.argv[1:])"
)


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    errors: str
    seconds: float
    megabytes: float
    """By which the process grew at most."""


class TooLong(BaseException):
    """A command that did not end."""


def state(folder: Path) -> dict[str, str]:
    """Everything that lies in a folder; of files a digest, of links where they lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path)] = "folder" if path.is_dir() else "neither file nor folder"
    return found


def attempt(case: Case, arguments: Sequence[str], folder: Path) -> Ended:
    """Run the command of a case in its folder."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    if case.process:
        status, errors = _in_process(case, arguments, folder)
    else:
        status, errors = _here(arguments, folder)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return Ended(status, errors, time.perf_counter() - started, grown)


def _here(arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    """In this process, where torch is imported already."""
    errors, status = io.StringIO(), 0
    with _at(folder), _at_most(SECONDS), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            dlkd(arguments)
        except SystemExit as end:
            status = int(end.code or 0)
        except (Exception, TooLong):  # what a user would see
            traceback.print_exc()
            status = 1
    return status, errors.getvalue().encode(errors="backslashreplace").decode()  # as standard error does


def _in_process(case: Case, arguments: Sequence[str], folder: Path) -> tuple[int, str]:
    start = ["-m", "dlkd"] if case.file_limit is None else ["-c", LIMITED.format(case.file_limit)]
    done = subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stderr


@contextlib.contextmanager
def _at(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TooLong(f"not through after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def faults(case: Case, ended: Ended, before: dict[str, str], after: dict[str, str], folder: Path) -> list[str]:
    """What is not as promised, in words."""
    allowed = {str(folder / name) for name in case.leaves}
    new = [p for p in after if p not in before and not any(p == a or p.startswith(f"{a}/") for a in allowed)]
    found = {
        f"exit status {ended.status}": ended.status != 2,
        f"{len(ended.errors.splitlines())} lines": ended.errors.count("\n") != 1,
        f"no line that begins with {START!r}": not ended.errors.startswith(START),
        f"not a word of {case.says!r}": case.says not in ended.errors,
        "a character that moves the terminal": not ended.errors.rstrip("\n").isprintable(),
        f"left behind: {', '.join(new[:3])}": bool(new),
        "something lost": bool(before.keys() - after.keys()),
        "something changed": any(after[p] != content for p, content in before.items() if p in after),
        f"{ended.seconds:.0f} s": not case.process and ended.seconds > SECONDS,
        f"{ended.megabytes:.0f} MB": ended.megabytes > MEGABYTES,
    }
    return [words for words, wrong in found.items() if wrong]


def try_case(case: Case, root: Path, sound: Path) -> dict[str, Any]:
    """One row of the results."""
    folder = root / "case"
    folder.mkdir()
    try:
        arguments = [str(argument) for argument in case.make(Place(folder, sound))]
        before = {**state(folder), **state(sound)}
        ended = attempt(case, arguments, folder)
        wrong = faults(case, ended, before, {**state(folder), **state(sound)}, folder)
    finally:
        shutil.rmtree(folder)
    line = ended.errors.strip().replace(str(folder), "HERE").replace(str(sound), "SOUND").replace(sys.prefix, "PYTHON")
    command = " ".join(arguments[: 2 if arguments[:1] == ["store"] else 1])
    row = {"part": case.part, "what": case.what, "command": command, "line": line.splitlines()[-1] if line else ""}
    row["line"] = row["line"].strip()[:400]
    return {**row, "verdict": "; ".join(wrong) or "as promised"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown for people."""

    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")

    lines = []
    for part in dict.fromkeys(row["part"] for row in rows):
        lines += [f"### {part}", "", "| bad input | what is said |", "|---|---|"]
        for row in rows:
            if row["part"] == part:
                said = row["line"].removeprefix(START)
                said = said if len(said) <= 200 else said[:199] + "…"
                lead = "" if row["verdict"] == "as promised" else "**not as promised yet**: "
                lines.append(f"| {cell(row['what'])} | {lead}{cell(said)} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Try every case, or those whose part or words hold ``--only``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--sound", type=Path, help="keep the sound things here for another time")
    parser.add_argument("--table", type=Path, help="print the results in this file as Markdown")
    options = parser.parse_args()
    if options.table is not None:
        print(table(json.loads(options.table.read_text())["cases"]))
        return
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        sound = root / "sound" if options.sound is None else options.sound.resolve()
        if not sound.is_dir():
            sound.mkdir()
            with contextlib.redirect_stdout(io.StringIO()):
                sound_things(sound)
        rows = []
        for case in (case for case in CASES if options.only in f"{case.part}: {case.what}"):
            rows.append(try_case(case, root, sound))
            print(f"{rows[-1]['part']}: {rows[-1]['what']}: {rows[-1]['verdict']}\n    {rows[-1]['line']}", flush=True)
    good = sum(row["verdict"] == "as promised" for row in rows)
    print(f"{good} of {len(rows)} as promised")
    if options.out is not None:
        about = {"tried": len(rows), "as_promised": good, "parts": dict(Counter(row["part"] for row in rows))}
        about |= {"seconds": round(time.perf_counter() - started), **machine()}
        options.out.write_text(json.dumps({**about, "cases": rows}, indent=2, ensure_ascii=False) + "\n")
    sys.exit(good < len(rows))


if __name__ == "__main__":
    main()
