"""The recipe cifar100/lite for no teacher, KD and DLKD, on clean and on noisy labels, over several seeds.

    python benchmarks/lite.py --data ROOT --weights cifar100_resnet56.pth --work runs/lite \
        --out results/cifar100-lite.json

ROOT holds `cifar-100-python/`. Every cell is a `dlkd distill` run in WORK; what is finished is not run again, what was
killed is resumed. Methods and label conditions of one seed share a store, so the teacher is asked once about each view.
`--seeds` picks a part of the work; cells that were not run are named in the output.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from recipe import spread

from dlkd.cli import main as dlkd
from dlkd.files import write_json

METHODS = {"ce": "no teacher", "kd": "KD", "dlkd": "DLKD"}
NOISES = (0.0, 0.4)
SEEDS = (0, 1, 2)


def cell(options: argparse.Namespace, method: str, noise: float, seed: int) -> Path:
    """The run folder of a cell."""
    return Path(options.work) / f"{method}-noise{noise:g}-seed{seed}"


def run_cell(options: argparse.Namespace, method: str, noise: float, seed: int) -> None:
    """Run or resume one cell."""
    out = cell(options, method, noise, seed)
    if (out / "run.json").exists():
        dlkd(["distill", "--out", str(out), "--resume"])
        return
    dlkd(
        [
            *("distill", "--config", "cifar100/lite", "--out", str(out), "--seed", str(seed), "--method", method),
            *("--data.root", str(options.data), "--data.noise", str(noise), "--teacher.weights", str(options.weights)),
            *("--store", str(Path(options.work) / f"store-seed{seed}")),
        ]
    )


def read(path: Path) -> dict[str, Any] | None:
    """The results of a cell, or None while it is not finished."""
    file = path / "results.json"
    return json.loads(file.read_text()) if file.exists() else None


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """All cells of the work folder: every seed, mean ± sd, and DLKD − KD paired by seed."""
    found: dict[str, Any] = {
        "recipe": "cifar100/lite",
        "command": "python benchmarks/lite.py",
        "rows": [],
        "paired": [],
    }
    for noise in NOISES:
        for method, name in METHODS.items():
            runs = {s: read(cell(options, method, noise, s)) for s in SEEDS}
            done = {s: r for s, r in runs.items() if r is not None}
            row: dict[str, Any] = {"noise": noise, "method": name, "not_run": sorted(set(runs) - set(done))}
            for figure in ("accuracy", "ece"):
                values = {s: r["test"][figure] for s, r in done.items()}
                row[figure] = {"seeds": values, **spread(list(values.values()))}
            found["rows"].append(row)
            for r in done.values():
                found |= {k: r[k] for k in ("versions", "machine", "threads", "accelerator", "epochs", "student")}
                if "teacher" in r:
                    found["teacher"] = r["teacher"]
        kd, ours = (found["rows"][-2]["accuracy"]["seeds"], found["rows"][-1]["accuracy"]["seeds"])
        difference = [ours[s] - kd[s] for s in SEEDS if s in kd and s in ours]
        found["paired"].append({"noise": noise, "what": "DLKD − KD, accuracy", **spread(difference)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    options = parser.parse_args()
    for seed in options.seeds:
        # DLKD first: it fills the store with distances, which the others then share.
        for method in ("dlkd", "kd", "ce"):
            for noise in NOISES:
                run_cell(options, method, noise, seed)
    found = collect(options)
    write_json(options.out, found)
    for row in found["rows"]:
        mean, sd = row["accuracy"]["mean"], row["accuracy"]["sd"]
        shown = "not run" if mean is None else f"{mean:.2f}" + ("" if sd is None else f" ± {sd:.2f}")
        print(f"noise {row['noise']:g}  {row['method']:<10}  {shown}")


if __name__ == "__main__":
    main()
