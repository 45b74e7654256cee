"""What more data and more classes cost, and what runs need of memory: the part of throughput.py behind --scaling.

Memory is that of a fresh process for each run, and there of the whole process and of its steps alone: the teacher is
loaded, checked and let go before the steps of a run from a store.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from random_runs import PAIRS, Pair, Runs, choose, in_memory, ready_batches, take_turns, through_the_loader

from dlkd.train.teacher_options import StorageOptions

TIMES = (1, 2, 4, 8)
SMALL = Pair("resnet8", "resnet8")
"""Networks that cost little, so that what is not theirs is seen."""
LARGE_STORE = Pair("resnet8x0.5", "resnet8x0.5", classes=21_843)
BUDGETS = (64, 100_000)
"""MB of a store that are mapped at once: as good as one shard, and all."""
Rows = list[dict[str, Any]]


def measure_scaling(options: argparse.Namespace) -> dict[str, Rows]:
    """Tables of an epoch from a store by the number of images, and of a step by the number of classes."""
    with ExitStack() as stack:
        runs = []
        for pair in (
            *(replace(SMALL, images=options.scaling_images * k) for k in TIMES),
            *(
                replace(SMALL, images=max(SMALL.batch_size, options.scaling_images // 2), classes=c)
                for c in options.classes
            ),
        ):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            runs.append(Runs(folder, pair, options.device, options.threads))
        return {
            "an epoch from a store, by images": by_images(runs[: len(TIMES)], options.rounds),
            "a step, by classes": by_classes(runs[len(TIMES) :], options.rounds, options.steps),
        }


def by_images(runs: list[Runs], rounds: int) -> Rows:
    """Seconds for each image, and beside those of the smallest set in the same round."""
    sessions = [r.stored("dlkd") for r in runs]
    works = {
        str(r.pair.images): (through_the_loader(s), s.steps.per_epoch) for r, s in zip(runs, sessions, strict=True)
    }
    works[str(runs[0].pair.images)][0](2)
    seconds = take_turns(works, rounds, sessions[0].fabric.device)
    return [
        {
            "images": run.pair.images,
            "microseconds an image": 1e6 * statistics.median(row[name] for row in seconds) / SMALL.batch_size,
            "beside the fewest": statistics.median(row[name] / row[next(iter(works))] for row in seconds),
            "store bytes an image": run.store_bytes / run.pair.images,
        }
        for name, run in zip(works, runs, strict=True)
    ]


def by_classes(runs: list[Runs], rounds: int, steps: int) -> Rows:
    """Milliseconds of a step, and what each class beyond the fewest adds."""
    works, device = {}, torch.device("cpu")
    for run in runs:
        plain, stored = run.session("ce"), run.stored("dlkd")
        device, ready = plain.fabric.device, ready_batches(plain)
        for name, session in (("plain", plain), ("store", stored)):
            works[f"{name}, {run.pair.classes}"] = (in_memory(session, ready), steps)
    for work, _ in works.values():
        work(2)
    seconds = take_turns(works, rounds, device)
    rows, fewest = [], runs[0].pair.classes
    for run in runs:
        classes = run.pair.classes
        floor, mine, more = f"plain, {classes}", f"store, {classes}", classes - fewest
        added = [1e6 * (row[mine] - row[f"store, {fewest}"]) / more for row in seconds] if more else [0.0]
        rows.append(
            {
                "classes": classes,
                "plain, ms": 1000 * statistics.median(row[floor] for row in seconds),
                "store, ms": 1000 * statistics.median(row[mine] for row in seconds),
                "store ÷ plain": statistics.median(row[mine] / row[floor] for row in seconds),
                "microseconds a class more": statistics.median(added),
                "store bytes an image": run.store_bytes / run.pair.images,
            }
        )
    return rows


def measure_memory(options: argparse.Namespace) -> dict[str, Rows]:
    """Tables of the memory of each way to train a pair, and of stores beside their budget."""
    tables = {}
    for name in options.pairs or PAIRS:
        pair = choose(PAIRS[name], options)
        cases = {
            "plain": {"method": "ce"},
            "kd": {"method": "kd"},
            "dlkd": {"method": "dlkd"},
            "store": {"store": True},
        }
        tables[f"memory of {pair.name}"] = memory_of(pair, cases, options, options.steps)
    large = replace(LARGE_STORE, images=options.budget_images)
    cases = {"plain": {"method": "ce"}} | {f"store, {mb} MB mapped": {"store": True, "memory": mb} for mb in BUDGETS}
    tables["memory of stores beside their budget"] = memory_of(large, cases, options, large.images // large.batch_size)
    return tables


def memory_of(pair: Pair, cases: dict[str, dict[str, Any]], options: argparse.Namespace, steps: int) -> Rows:
    """One row for each case, each in a process of its own."""
    rows: Rows = []
    with tempfile.TemporaryDirectory() as folder:
        about = {"folder": folder, "device": options.device, "threads": options.threads, "steps": steps}
        run_apart(about | {"pair": asdict(pair), "store": True})  # fills the store
        for name, case in cases.items():
            found = run_apart(about | {"pair": asdict(pair)} | case)
            row: dict[str, Any] = {"run": name, "store MB": round(found.pop("store") / 1e6, 1)}
            for what, size in found.items():
                row[f"{what}, MB"] = None if size is None else round(size / 1e6, 1)
            row["steps beside plain, MB"] = _beside(row, rows[0] if rows else row)
            rows.append(row)
            print(row, flush=True)
    return rows


def _beside(row: dict[str, Any], plain: dict[str, Any]) -> float | None:
    mine, floor = row["peak of the steps, MB"], plain["peak of the steps, MB"]
    return None if mine is None or floor is None else round(mine - floor, 1)


def run_apart(case: dict[str, Any]) -> dict[str, Any]:
    """What :func:`run_case` finds in a new process."""
    command = [sys.executable, __file__, json.dumps(case)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_case(case: dict[str, Any]) -> dict[str, float | None]:
    """Train a few steps; bytes of the peak."""
    runs = Runs(Path(case["folder"]), Pair(**case["pair"]), case["device"], case["threads"])
    if case.get("store"):
        changes = {"storage": StorageOptions(memory=case["memory"])} if "memory" in case else {}
        session = runs.stored("dlkd", **changes)
    else:
        session = runs.session(case["method"])
    device, work = session.fabric.device, through_the_loader(session)
    before = peak(device)
    fresh = forget_peak(device)
    work(case["steps"])
    steps = peak(device)
    store = runs.store_bytes if case.get("store") else 0
    return {
        "peak of all": None if before is None or steps is None else max(before, steps),
        "peak of the steps": steps if fresh else None,
        "store": store,
    }


def peak(device: torch.device) -> float | None:
    """Most bytes held so far: of the GPU, else resident in memory; None where the system does not say."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    # Not getrusage: what it says of a process begins at what the one that started it held.
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return None if found is None else 1024.0 * int(found[1])


def forget_peak(device: torch.device) -> bool:
    """Let the peak begin at what is held now; false where the system does not allow it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(run_case(json.loads(sys.argv[1]))))
