"""What a second process is worth, and what ImageNet on eight accelerators would cost.

    python benchmarks/scale.py --out results/scale.json             # measure
    python benchmarks/scale.py --out results/scale.json --table     # print what is in the file

Measured: images per second of `dlkd distill`, resnet20 taught by resnet56 on random images of CIFAR's size, one thread
for each process: one process, two by torchrun, and one of two threads, in turns; the median of the rounds, of the last
epoch of each.

Planned: bytes and operations of a recipe, counted on the models themselves (multiplications and additions each count;
a backward twice a forward), for accelerators of a speed that is assumed and said.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from random_runs import PAIRS, Runs, choose
from torch.utils.flop_counter import FlopCounterMode

from dlkd.files import write_json
from dlkd.models import build_model
from dlkd.store import Storage
from losses import about

PROCESSES = {"one process": (1, 1), "two processes": (2, 1), "one process, two threads": (1, 2)}
"""Name → processes, threads of each."""
IMAGES, CLASSES, SIDE, EPOCHS, BATCH = 1_281_167, 1000, 224, 100, 512
DEVICES = 8
SPEED, SHARE = 989e12, 0.05
"""Operations a second of an accelerator in bf16 as its maker says (an H100), and the share of them that is assumed:
small ResNets are bound by memory."""


def speed(runs: Runs, folder: Path, name: str, epochs: int) -> float:
    """Images per second of the last epoch of one run."""
    processes, threads = PROCESSES[name]
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    )
    options = {
        "out": folder / "run",
        "data.name": "npz",
        "data.root": runs.folder / "random.npz",
        "data.held_out": 0,
        "student.name": runs.pair.student,
        "teacher.name": runs.pair.teacher,
        "teacher.weights": runs.folder / "teacher.safetensors",
        "epochs": epochs,
        "optim.batch_size": runs.pair.batch_size,
        "engine.threads": threads,
        "engine.report": "false",
        "engine.tensorboard": "false",
        "device": "cpu",
    }
    given = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, *launcher, "-m", "dlkd", "distill", *given, "--overwrite", "--force"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    with (folder / "run" / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["images_per_second"])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second of each way, and how many times that of one process in the same round."""
    pair = choose(PAIRS["resnet56-resnet20"], options)
    with tempfile.TemporaryDirectory() as folder:
        runs, rows = Runs(Path(folder), pair, "cpu", 1), []
        for k in range(options.rounds):
            order = list(PROCESSES)[:: -1 if k % 2 else 1]
            rows.append({name: speed(runs, Path(folder), name, options.epochs) for name in order})
            print(f"round {k + 1} of {options.rounds}", {n: round(v, 1) for n, v in rows[-1].items()}, flush=True)
    found = {}
    for name in PROCESSES:
        ratios = [row[name] / row["one process"] for row in rows]
        found[name] = {
            "images_per_second": statistics.median(row[name] for row in rows),
            "speed_up": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
        }
    settings = {**vars(pair), "rounds": options.rounds, "epochs": options.epochs}
    return {"settings": settings, "ways": found}


def operations(name: str) -> tuple[float, int]:
    """Of one forward of one image, and the parameters."""
    with torch.device("meta"):
        model = build_model(name, CLASSES).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, SIDE, SIDE))
    return float(counter.get_total_flops()), sum(p.numel() for p in model.parameters())


def plan() -> dict[str, Any]:
    """ImageNet, resnet34 → resnet18, on several accelerators."""
    teacher, _ = operations("torchvision:resnet34")
    student, parameters = operations("torchvision:resnet18")
    steps = EPOCHS * (IMAGES // BATCH)
    each = {k: Storage("fp16", k).bytes_per_sample(CLASSES, 2, probe_logits=False) for k in (None, 20)}
    rate = DEVICES * SPEED * SHARE
    hours = {
        "plain training": 3 * student,
        "DLKD online": 3 * student + 2 * teacher,
        "building the store, one view": 2 * teacher / EPOCHS,
        "building the store, a view for each epoch": 2 * teacher,
    }
    ring = 2 * (DEVICES - 1) / DEVICES
    return {
        "operations_of_a_forward": {"teacher": teacher, "probe": teacher, "student": student},
        "student_parameters": parameters,
        "steps": steps,
        "images_per_second": {
            "plain training": rate / (3 * student),
            "DLKD online": rate / (3 * student + 2 * teacher),
        },
        "hours": {name: IMAGES * EPOCHS * value / rate / 3600 for name, value in hours.items()},
        "store_gb_a_view": {"all logits": IMAGES * each[None] / 1e9, "20 largest": IMAGES * each[20] / 1e9},
        "store_gb": {"all logits": IMAGES * EPOCHS * each[None] / 1e9, "20 largest": IMAGES * EPOCHS * each[20] / 1e9},
        "bytes_a_step_and_device": {
            "gradients sent": ring * 4 * parameters,
            "images read (decoded, uint8)": BATCH / DEVICES * 3 * SIDE * SIDE,
            "lessons read from the store, all logits": BATCH / DEVICES * each[None],
            "logits and gradients handed round by dist, mlkd, r2kd": (2 * 4 * (DEVICES - 1) / DEVICES + ring * 4)
            * CLASSES
            * BATCH,
        },
        "assumed": {"devices": DEVICES, "operations_a_second": SPEED, "share_of_them": SHARE, "batch": BATCH},
    }


def table(found: dict[str, Any]) -> str:
    """What is in the file, in Markdown."""
    lines = ["| | images/s | times one process | min – max |", "|---|---|---|---|"]
    for name, row in found["measured"]["ways"].items():
        spread = f"{row['min']:.2f} – {row['max']:.2f}"
        lines.append(f"| {name} | {row['images_per_second']:.0f} | {row['speed_up']:.2f} | {spread} |")
    planned = found["plan"]
    lines += ["", "| ImageNet, resnet34 → resnet18, 100 epochs | hours |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in planned["hours"].items()]
    lines += ["", "| images to be decoded a second | |", "|---|---|"]
    lines += [f"| {name} | {value:,.0f} |" for name, value in planned["images_per_second"].items()]
    lines += ["", "| store | GB a view | GB of 100 views |", "|---|---|---|"]
    for name, value in planned["store_gb_a_view"].items():
        lines.append(f"| {name} | {value:.2f} | {planned['store_gb'][name]:.0f} |")
    lines += ["", "| a step, each accelerator | MB |", "|---|---|"]
    lines += [f"| {name} | {value / 1e6:.2f} |" for name, value in planned["bytes_a_step_and_device"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch_size", type=int)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--table", action="store_true", help="print the tables of the file, measure nothing")
    options = parser.parse_args()
    if not options.table:
        card = {k: v for k, v in about(1).items() if k != "settings"}
        write_json(options.out, {**card, "measured": measure(options), "plan": plan()})
    print(table(json.loads(options.out.read_text())))


if __name__ == "__main__":
    main()
