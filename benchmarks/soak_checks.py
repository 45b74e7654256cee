"""What ``soak.py`` looks at: what a kill cost, what differs in the end, and the table of it all."""

from __future__ import annotations

import csv
import itertools
import json
import random
import statistics
from pathlib import Path
from typing import Any, NamedTuple

from soak_child import Death

from dlkd.files import TEMPORARY
from dlkd.run_folder import RESULTS
from dlkd.train.checkpoint import CURRENT, PREVIOUS, load_checkpoint

RESUMABLE, KILLED = 75, -9
SECONDS = 10.0
"""After SIGTERM, at most: a step of these jobs takes a hundredth of one."""
CLOCK = ("images_per_second", "data_wait", "seconds")
"""What differs from run to run."""


class Done(NamedTuple):
    """How a process ended."""

    status: int
    ended: float
    events: list[list[Any]]
    """Time, seconds of computing, event and its number."""
    output: str

    def progress(self, unit: str) -> list[int]:
        """The steps or shards that it began."""
        return [event[3] for event in self.events if event[2] == unit]

    def seconds(self, unit: str, *, start: bool) -> float:
        """Of computing, from the start to the first step or shard, or from one to the next."""
        times = [event[1] for event in self.events if event[2] == unit]
        if start:
            return float(times[0] - self.events[0][1])
        return float(statistics.median(b - a for a, b in itertools.pairwise(times)))

    def after_signal(self) -> float | None:
        """Seconds that it lived on after its signal; None where it got none."""
        sent = [event[0] for event in self.events if event[2] == "signal"]
        return self.ended - sent[0] if sent else None

    def expect(self, status: int, who: str) -> None:
        """Stop here where nothing further can be said."""
        if self.status != status:
            raise AssertionError(f"{who} ended with {self.status}, not {status}:\n{self.output}")


def again(folder: Path, arguments: list[str]) -> list[str]:
    """What a user types after a kill."""
    if arguments[0] in ("store", "compare"):
        return arguments
    if (folder / "config.yaml").exists():
        return [arguments[0], "--out", str(folder), "--resume"]
    return [*arguments, "--overwrite"] if (folder / "run.json").exists() else arguments


def runs(folder: Path) -> list[Path]:
    """The runs in a folder that have a checkpoint, in their order: itself, or the cells of a comparison."""
    found = {file.parent for name in (CURRENT, PREVIOUS) for file in folder.rglob(name)}
    return sorted(found, key=lambda run: (not (run / RESULTS).is_file(), run))


def steps_kept(folder: Path) -> int:
    """How far the checkpoints have got."""
    kept = [load_checkpoint(run) for run in runs(folder)]
    return sum(each.state["step"] for each in kept if each is not None)


def judge_run(death: Death, done: Done, folder: Path) -> None:
    """What a kill cost a run, or a comparison: steps that had begun, and are not in a checkpoint."""
    step = steps_kept(folder)
    begun = done.progress("step")
    _judge(death, done, folder, max(begun, default=None), max(0, max(begun, default=-1) + 1 - step))


def judge_store(death: Death, done: Done, folder: Path) -> None:
    """The same of a store: shards that had begun, and are not there."""
    begun = done.progress("shard")
    lost = [view for view in begun if not list(folder.glob(f"view-{view:05d}-*.safetensors"))]
    _judge(death, done, folder, max(begun, default=None), len(lost))


def _judge(death: Death, done: Done, folder: Path, reached: int | None, lost: int) -> None:
    seconds = done.after_signal()
    death.found |= {"status": done.status, "reached": reached, "lost": lost, "delivered": seconds is not None}
    if death.signal == "SIGTERM" and seconds is not None:
        death.found["seconds"] = round(seconds, 2)
    if done.status not in (RESUMABLE, KILLED):
        death.found["output"] = done.output[-300:].replace(str(folder.parents[1]), "")


def damage(death: Death, folder: Path, draw: random.Random) -> None:
    """Flip a bit of the newest checkpoint, or cut it off."""
    file = runs(folder)[-1] / CURRENT
    content = bytearray(file.read_bytes())
    place = draw.randrange(len(content))
    if death.damage == "cut off":
        del content[place:]
    else:
        content[place] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    kept = load_checkpoint(file.parent)
    assert kept is not None
    death.found["goes on from"] = steps_kept(folder) if kept.warning else None


def judge_damage(death: Death, done: Done) -> None:
    """Was it noticed, in one line, and the checkpoint before it used?"""
    lines = [line for line in done.output.splitlines() if "is damaged" in line]
    good = len(lines) == 1 and lines[0].startswith("note: ") and "checkpoint.previous.pt" in lines[0]
    death.found["noticed"] = good and done.progress("step")[0] == death.found["goes on from"]


def differences(mine: Path, theirs: Path) -> tuple[list[str], int]:
    """What differs between two folders of runs or stores but for times, and how many files were compared."""
    names = [
        {str(p.relative_to(f)) for p in f.rglob("*") if p.is_file() and p.suffix != ".lock"} for f in (mine, theirs)
    ]
    found = [f"{name} is in one of two {mine.name} alone" for name in sorted(names[0] ^ names[1])]
    found += [f"{name} was left behind" for name in sorted(names[0]) if TEMPORARY.fullmatch(Path(name).name)]
    found += [f"{p.name} was left behind" for p in mine.parent.iterdir() if p.name.startswith(".")]
    compared = 0
    for name in sorted(names[0] & names[1]):
        contents = [_content(folder / name) for folder in (mine, theirs)]
        compared += contents[0] is not None
        if contents[0] != contents[1]:
            found.append(f"{name} of {mine.name} differs")
    return found, compared


def _content(file: Path) -> Any:
    """What must be the same; None of a file that has times or the name of its folder in it."""
    if file.suffix == ".csv":
        with file.open(newline="") as rows:
            return [_without_clock(row) for row in csv.DictReader(rows)]
    if file.name == RESULTS:
        return _without_clock(json.loads(file.read_text()))
    if file.suffix in (".safetensors", ".npz") or file.name in ("student.json", "manifest.json"):
        return file.read_bytes()
    return None


def _without_clock(found: Any) -> Any:
    """Without what differs from run to run, and without the remark that a checkpoint was damaged."""
    if isinstance(found, dict):
        return {key: _without_clock(value) for key, value in found.items() if key not in CLOCK}
    if isinstance(found, list):
        return [_without_clock(value) for value in found if not (isinstance(value, str) and "is damaged" in value)]
    return found


def row(command: str, death: Death) -> dict[str, Any]:
    """A kill in the file."""
    known = {"command": command, "job": death.job, "signal": death.signal, "moment": death.event}
    delay = {"delay": round(death.delay, 3)} if death.delay else {}
    return {**known, **delay, **death.found, **({} if death.damage is None else {"damage": death.damage})}


def verdicts(
    deaths: list[Death], jobs: list[dict[str, Any]], found: list[str], every: int
) -> list[dict[str, str | int | float | bool]]:
    """What was found beside what was to be found."""
    rows: list[dict[str, str | int | float | bool]] = []

    def add(what: str, value: float, expected: int | str, good: bool) -> None:
        rows.append({"what": what, "found": value, "expected": expected, "good": good})

    def all_of(what: str, values: list[bool]) -> None:
        add(what, sum(values), len(values), all(values))

    def at_most(what: str, values: list[float], most: float) -> None:
        value = max(values, default=0)
        add(what, value, f"at most {most:g}" if most else 0, value <= most)

    def at_least_one(what: str, value: int) -> None:
        add(what, value, "at least 1", value >= 1)

    killed, stopped = ([d for d in deaths if d.signal == name] for name in ("SIGKILL", "SIGTERM"))
    builds = {job["job"] for job in jobs if job["command"] == "store build"}
    during = [d.event for d in killed if d.found["delivered"] and "just renamed" not in d.event]
    all_of("kills that came", [d.found["delivered"] for d in deaths])
    for what in ("checkpoint", "shard"):
        at_least_one(f"SIGKILL during the write of a {what}", sum(e.startswith(f"{what} ") for e in during))
    all_of("SIGKILL ended with that signal", [d.found["status"] == KILLED for d in killed])
    all_of("SIGTERM ended with status 75", [d.found["status"] == RESUMABLE for d in stopped])
    at_most("seconds from SIGTERM to the end, the longest", [d.found.get("seconds", 0) for d in stopped], SECONDS)
    at_most("steps or shards lost to a SIGTERM, the most", [d.found["lost"] for d in stopped], 0)
    at_most("steps lost to a SIGKILL, the most", [d.found["lost"] for d in killed if d.job not in builds], every)
    at_most("shards lost to a SIGKILL, the most", [d.found["lost"] for d in killed if d.job in builds], 1)
    damaged = [d.found.get("noticed", False) for d in deaths if d.damage is not None]
    all_of("damaged checkpoints noticed, the one before used", damaged)
    at_least_one("files compared with those of the undisturbed jobs", sum(job["compared"] for job in jobs))
    at_most("differences, and files left behind", [len(found)], 0)
    return rows


def table(found: dict[str, Any]) -> str:
    """For docs/reliability.md."""
    lines = ["| command | length | kills | SIGKILL | SIGTERM |", "|---|---|---|---|---|"]
    for job in found["jobs"]:
        signals = [kill["signal"] for kill in found["kills"] if kill["job"] == job["job"]]
        counts = f"{signals.count('SIGKILL')} | {signals.count('SIGTERM')}"
        which = f", {job['job']}" if " " in job["job"] else ""
        lines.append(f"| `dlkd {job['command']}`{which} | {job['total']} | {len(signals)} | {counts} |")
    lines += ["", "| | found | expected |", "|---|---|---|"]
    for verdict in found["verdicts"]:
        mark = "" if verdict["good"] else ", missed"
        lines.append(f"| {verdict['what']} | {verdict['found']}{mark} | {verdict['expected']} |")
    return "\n".join(lines) + "\n"
