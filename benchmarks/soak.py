"""Does anything differ after kills? Every job once undisturbed, then killed again and again and gone on with.

    python benchmarks/soak.py --out results/soak.json
    python benchmarks/soak.py --out results/soak.json --table    # for docs/reliability.md

The moments are drawn from --seed: in a step or while a shard is made, in the middle of the write of a checkpoint or a
shard (half of its bytes written, before and after its renaming), while a process starts, while it writes its results.
Now and then the checkpoint is damaged as well. A process goes on as a user would: --resume, or the same command. Then
students, tables, figures and shards are compared with those of the undisturbed jobs; "verdicts" says what was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from soak_checks import Done, again, damage, differences, judge_damage, judge_run, judge_store, row, table, verdicts
from soak_child import Death, run_apart

from dlkd.files import write_json
from dlkd.jobs.card import machine

EVERY, EPOCHS = 5, 7
SMALL = (
    *("--data.per_class", "60", "--device", "cpu", "--epochs", str(EPOCHS), "--optim.batch_size", "32"),
    *("--engine.checkpoint_every", str(EVERY), "--engine.threads", "1"),
    *("--engine.tensorboard", "false", "--engine.report", "false"),
)
STUDENT = ("--student.name", "resnet8x0.5", "--teacher.weights", "{teacher}", "--probe.level_views", "2")
EXACT = ("--storage.dtype", "fp32")


class Job(NamedTuple):
    """A command, in which {words} stand for folders."""

    arguments: tuple[str, ...]
    kinds: tuple[str, ...]
    """Of its deaths, see :data:`KINDS`."""

    @property
    def builds(self) -> bool:
        return self.arguments[0] == "store"

    @property
    def unit(self) -> str:
        return "shard" if self.builds else "step"

    @property
    def runs(self) -> int:
        """How many runs it is made of, one after the other, as long as each other."""
        return len(METHODS) if self.arguments[0] == "compare" else 1

    @property
    def command(self) -> str:
        return "store build" if self.builds else self.arguments[0]


METHODS = ("kd", "dlkd")
RUN = ("step", "SIGTERM", "checkpoint", "damage", "start", "results")
JOBS = {
    "train": Job(("train", "--out", "{train}", "--model.name", "resnet8x0.5", "--optim.lr", "0.1", *SMALL), RUN),
    "distill": Job(
        ("distill", "--out", "{distill}", *STUDENT, "--views.mixing", "mixup", "--optim.ema", "0.9", *SMALL), RUN
    ),
    "build": Job(
        ("store", "build", "--store", "{store}", *STUDENT, *SMALL, *EXACT, "--storage.views", "20"),
        ("shard", "SIGTERM", "shard file", "start"),
    ),
    "from a store": Job(
        ("distill", "--out", "{stored}", "--store", "{store}", *STUDENT, "--optim.optimizer", "adamw", *SMALL), RUN
    ),
    "filling a store": Job(
        ("distill", "--out", "{filling}", "--store", "{filled}", *STUDENT, "--method", "kd", *SMALL, *EXACT),
        (*RUN, "shard file"),
    ),
    "compare": Job(
        (
            *("compare", "--out", "{compared}", "--methods", f"[{', '.join(METHODS)}]", "--seeds", "1"),
            *(f"--run.{a[2:]}" if a.startswith("--") else a for a in (*STUDENT, *SMALL)),
        ),
        RUN,
    ),
}
FOLDERS_OF = {
    "train": ("train",),
    "distill": ("distill",),
    "build": ("store",),
    "from a store": ("stored",),
    "filling a store": ("filling", "filled"),
    "compare": ("compared",),
}
FOLDERS = tuple(folder for each in FOLDERS_OF.values() for folder in each)
CERTAIN = (
    *(("build", "shard file"), ("distill", "checkpoint"), ("distill", "SIGTERM")),
    *(("filling a store", "shard file"), ("compare", "damage")),
)
LEAST = 3
"""The shortest soak has so many of them."""
FILES = {
    "checkpoint": (
        *("checkpoint half written", "checkpoint between its renamings"),
        *("checkpoint before its renaming", "checkpoint just renamed"),
    ),
    "shard file": ("shard half written", "shard before its renaming", "shard just renamed"),
    "results": (
        *("student.safetensors half written", "results.json before its renaming"),
        *("student.json just renamed", "results.json half written"),
    ),
}
"""The moments of some kinds, the first for certain."""


def plan(kills: int, seed: int) -> dict[str, list[Death]]:
    """The deaths of each job, in their order; every kind of every job comes before one comes again."""
    draw = random.Random(seed)
    left = {name: draw.sample(job.kinds, len(job.kinds)) for name, job in JOBS.items()}
    for name, kind in CERTAIN:
        left[name].remove(kind)
    wanted = list(CERTAIN)
    while len(wanted) < kills:
        for name, job in JOBS.items():
            left[name] = left[name] or draw.sample(job.kinds, len(job.kinds))
            wanted.append((name, left[name].pop()))
    used = dict.fromkeys(FILES, 0)
    deaths: dict[str, list[Death]] = {name: [] for name in JOBS}
    for name, kind in wanted[:kills]:
        event = JOBS[name].unit
        if kind in FILES:
            event = FILES[kind][used[kind] % len(FILES[kind])]
            used[kind] += 1
        delay = 0.0 if kind in FILES else draw.uniform(0.0, 1.0)
        damaged = draw.choice(("a flipped bit", "cut off")) if kind == "damage" else None
        signal = "SIGTERM" if kind == "SIGTERM" else "SIGKILL"
        event = "start" if kind == "start" else event
        deaths[name].append(Death(name, kind, signal, event, delay=delay, damage=damaged))
    return deaths


def set_moments(deaths: list[Death], total: int, whole: Done, draw: random.Random) -> None:
    """Draw the order of a job's deaths and how far it is at each; results are written at the end.

    Args:
        deaths: get their ``after`` and ``seconds``.
        total: steps or shards of the job.
        whole: the job undisturbed, for the time of a start and of a step.
        draw: of the seed.
    """
    unit, length = JOBS[deaths[0].job].unit, total // JOBS[deaths[0].job].runs
    # Two checkpoints of a run before the first kill, so that one may be damaged; one more epoch begins after the last.
    first, last = (1, length - 3) if unit == "shard" else (2 * EVERY + 2, length - length // EPOCHS - 1)
    draw.shuffle(deaths)
    deaths.sort(key=lambda death: death.kind == "results")
    possible = [moment for moment in range(total) if first <= moment % length < last]
    moments = sorted(draw.sample(possible, len(deaths)))
    for death, moment in zip(deaths, moments, strict=True):
        death.after = {"results": total - 1, "start": -1}.get(death.kind, moment)
        death.seconds = death.delay * whole.seconds(unit, start=death.kind == "start")


class Soak:
    """One work folder with the undisturbed jobs and those that are killed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.differences: list[str] = []
        self.jobs: list[dict[str, Any]] = []

    def arguments(self, job: Job, side: str) -> list[str]:
        """The command; both sides are taught by the undisturbed teacher."""
        words = {name: str(self.folder / side / name) for name in FOLDERS}
        return [a.format(**words, teacher=self.folder / "undisturbed" / "train") for a in job.arguments]

    def run(self, arguments: list[str], death: Death | None = None) -> Done:
        """The command, to its end or its death."""
        log, output = self.folder / "log", self.folder / "output"
        status, ended = run_apart(arguments, log, output, death), time.monotonic()
        return Done(status, ended, [json.loads(line) for line in log.read_text().splitlines()], output.read_text())

    def job(self, name: str, deaths: list[Death]) -> None:
        """The job undisturbed, then with its deaths."""
        job, unit = JOBS[name], JOBS[name].unit
        theirs, mine = (self.arguments(job, side) for side in ("undisturbed", "killed"))
        whole = self.run(theirs)
        whole.expect(0, f"{name}, undisturbed,")
        total = 1 + max(whole.progress(unit))
        found: dict[str, Any] = {
            "job": name,
            "command": job.command,
            "total": f"{total} {unit}s",
            "kills": len(deaths),
            "compared": 0,
        }
        self.jobs.append(found)
        if not deaths:
            return
        set_moments(deaths, total, whole, random.Random(f"{self.seed} {name}"))
        folder = Path(mine[mine.index("--store" if job.builds else "--out") + 1])
        damaged: Death | None = None
        for death in deaths:
            done = self.run(again(folder, mine), death)
            if damaged is not None and done.progress("step"):
                judge_damage(damaged, done)
                damaged = None
            (judge_store if job.builds else judge_run)(death, done, folder)
            print(f"{name}: {death.signal}, {death.event}, {death.found}", flush=True)
            if death.damage is not None:
                damage(death, folder, random.Random(death.after))
                damaged = death
        done = self.run(again(folder, mine))
        done.expect(0, f"{name}, gone on with,")
        if damaged is not None:
            judge_damage(damaged, done)
        for other in FOLDERS_OF[name]:
            differ, compared = differences(*(self.folder / side / other for side in ("killed", "undisturbed")))
            self.differences += [f"{name}: {difference}" for difference in differ]
            found["compared"] += compared


def soak(kills: int, seed: int) -> dict[str, Any]:
    """All of it; the content of the file."""
    started = time.monotonic()
    deaths = plan(kills, seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Soak(Path(folder), seed)
        for name in JOBS:
            if name == "train" or deaths[name]:
                work.job(name, deaths[name])
    flat = [death for each in deaths.values() for death in each]
    return {
        "settings": {"kills": kills, "seed": seed, "checkpoint_every": EVERY},
        **machine(),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "jobs": work.jobs,
        "kills": [row(JOBS[death.job].command, death) for death in flat],
        "differences": work.differences,
        "verdicts": verdicts(flat, work.jobs, work.differences, EVERY),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=36, help="at least three (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print the table of the file, kill nothing")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.out.read_text())))
        return
    if os.environ.get("OMP_NUM_THREADS") != "1":  # children are forked, which threads would not survive
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    if options.kills < LEAST:
        parser.error(f"expected --kills to be at least {LEAST}, but got {options.kills}")
    found = soak(options.kills, options.seed)
    write_json(options.out, found)
    print(table(found))
    sys.exit(not all(verdict["good"] for verdict in found["verdicts"]))


if __name__ == "__main__":
    main()
