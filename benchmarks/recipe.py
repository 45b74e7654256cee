"""A recipe for several methods and seeds, its figures in one file.

    python benchmarks/recipe.py cifar100n/lite --methods dlkd dlkd-robust kd ce --work runs/human \
        --out results/cifar100n-lite.json --common --data.root ROOT --data.noise_file cifar100n.npz \
        --teacher --teacher.weights results/teachers/cifar100n

Every cell is a `dlkd distill` run in WORK; what is finished is not run again, what was killed is resumed. The options
after `--common` go to every run, those after `--teacher` to those with a teacher. Methods of one seed share a store, so
the teacher is asked once about each view. `--seeds` picks a part of the work; what was not run is named in the output.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from dlkd.cli import main as dlkd
from dlkd.files import write_json

SEEDS = (0, 1, 2)
FIGURES = {
    "accuracy": ("test", "accuracy"),
    "ece": ("test", "ece"),
    "wrong_label": ("memorisation", "train", "wrong_label"),
    "true_label": ("memorisation", "train", "true_label"),
}
"""Figure → where it stands in the ``results.json`` of a run."""
ABOUT = ("versions", "machine", "threads", "accelerator", "epochs", "student", "noise", "teacher")


def cell(options: argparse.Namespace, method: str, seed: int) -> Path:
    """The run folder of a cell."""
    return Path(options.work) / f"{method}-seed{seed}"


def run_cell(options: argparse.Namespace, method: str, seed: int) -> None:
    """Run or resume one cell."""
    out = cell(options, method, seed)
    if (out / "run.json").exists():
        dlkd(["distill", "--out", str(out), "--resume"])
        return
    arguments = ["distill", "--config", options.recipe, "--out", str(out), "--seed", str(seed), "--method", method]
    arguments += options.common
    if method != "ce":
        arguments += [*options.teacher, "--store", str(Path(options.work) / f"store-seed{seed}")]
    dlkd(arguments)


def figure(run: dict[str, Any], path: tuple[str, ...]) -> float | None:
    """One figure of a run; None where the run has none of the kind."""
    found: Any = run
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return None if found is None else float(found)


def collect(options: argparse.Namespace) -> dict[str, Any]:
    """All cells of the work folder: every seed, mean ± sd, and differences to KD paired by seed."""
    found: dict[str, Any] = {"recipe": options.recipe, "rows": [], "paired": []}
    runs = {m: read_runs(options, m) for m in options.methods}
    for method, done in runs.items():
        row: dict[str, Any] = {"method": method, "not_run": sorted(set(SEEDS) - set(done))}
        for name, path in FIGURES.items():
            values = {seed: value for seed, run in done.items() if (value := figure(run, path)) is not None}
            if values:
                row[name] = {"seeds": values, **spread(list(values.values()))}
        found["rows"].append(row)
        for run in done.values():
            found |= {key: run[key] for key in ABOUT if key in run}
    for method in options.methods:
        if method in ("ce", "kd") or "kd" not in runs:
            continue
        both = sorted(set(runs[method]) & set(runs["kd"]))
        for name, path in FIGURES.items():
            pairs = [(figure(runs[method][s], path), figure(runs["kd"][s], path)) for s in both]
            differences = [ours - kd for ours, kd in pairs if ours is not None and kd is not None]
            if differences:
                found["paired"].append({"what": f"{method} − kd", "figure": name, **spread(differences)})
    return found


def read_runs(options: argparse.Namespace, method: str) -> dict[int, dict[str, Any]]:
    """The results of the finished cells of a method, by seed."""
    files = {seed: cell(options, method, seed) / "results.json" for seed in SEEDS}
    return {seed: json.loads(file.read_text()) for seed, file in files.items() if file.exists()}


def spread(values: list[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds."""
    return {
        "mean": statistics.fmean(values) if values else None,
        "sd": statistics.stdev(values) if len(values) > 1 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("recipe")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    # DLKD first: it fills the store with distances, which the others then share.
    parser.add_argument("--methods", nargs="+", default=["dlkd", "kd", "ce"])
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--skip", nargs="*", default=(), help="methods that are collected, but not run now")
    parser.add_argument("--common", nargs=argparse.REMAINDER, default=[], help="options of every run; then --teacher …")
    options = parser.parse_args()
    at = options.common.index("--teacher") if "--teacher" in options.common else len(options.common)
    options.common, options.teacher = options.common[:at], options.common[at + 1 :]
    for seed in options.seeds:
        for method in options.methods:
            if method not in options.skip:
                run_cell(options, method, seed)
    found = collect(options)
    write_json(options.out, found)
    for row in found["rows"]:
        cells = (f"{name} {shown(row[name])}" for name in FIGURES if name in row)
        print(f"{row['method']:<12}  " + "  ".join(cells) + (f"  not run: {row['not_run']}" if row["not_run"] else ""))


def shown(value: dict[str, float | None]) -> str:
    """Mean ± sd."""
    return f"{value['mean']:.2f}" + ("" if value["sd"] is None else f" ± {value['sd']:.2f}")


if __name__ == "__main__":
    main()
