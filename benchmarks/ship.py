"""From a folder of photographs to a file to be shipped: is the student right, small and fast, and better than alone?

    python benchmarks/ship.py --data CARS --teacher runs/cars-teacher --config stanford-cars/lite \
        --weights efficientnet_lite0.safetensors --work runs/ship --out results/ship.json

For each seed `dlkd distill --config RECIPE --data CARS --teacher T --with-baseline`, then
`dlkd export --to onnx --int8`, which checks the file on the test images; for the first seed with `--benchmark`, sizes
and times. The teacher is that of the recipe stanford-cars/teacher. What is finished is not run again, what was killed
goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dlkd.cli import main as dlkd
from dlkd.evaluate.statistics import paired, spread
from dlkd.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with one sub-folder of images a class")
    parser.add_argument("--teacher", required=True, help="the run of the teacher")
    parser.add_argument("--config", required=True, help="a recipe, which names the student")
    parser.add_argument("--weights", help="that the student begins with; random ones by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for seed in range(options.seeds):
        distil(options, seed)
        ship(options, seed)
    write_json(options.out, collected(options))
    print(options.out.read_text()[:2000])


def distil(options: argparse.Namespace, seed: int) -> None:
    """The student of a seed, and the same student alone."""
    out = options.work / f"seed{seed}"
    if (out / "run.json").exists():
        dlkd(["distill", "--out", str(out), "--resume", "--with-baseline"])
        return
    said = ["--config", options.config, "--data", options.data, "--teacher", options.teacher, "--seed", str(seed)]
    start = ["--student.weights", options.weights] if options.weights else []
    dlkd(["distill", *said, *start, "--with-baseline", "--out", str(out)])


def ship(options: argparse.Namespace, seed: int) -> None:
    """Its ONNX files, checked; the first are measured as well."""
    out = options.work / f"seed{seed}-onnx"
    if (out / "export.json").exists():
        return
    said = "--to onnx --int8 --check_images 100000".split() + ([] if seed else "--benchmark --threads 1".split())
    dlkd(["export", str(options.work / f"seed{seed}"), *said, "--out", str(out)])


def collected(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of all seeds, the times of the first, and the settings."""
    runs = [read(options.work / f"seed{seed}" / "results.json") for seed in range(options.seeds)]
    exports = [read(options.work / f"seed{seed}-onnx" / "export.json") for seed in range(options.seeds)]
    accuracy = {
        "teacher": [run["teacher"]["test"]["accuracy"] for run in runs],
        "alone": [run["baseline"]["accuracy"] for run in runs],
        "student": [run["test"]["accuracy"] for run in runs],
        "onnx": [of["check"]["exported_accuracy"] for of in exports],
        "int8": [of["int8"]["check"]["exported_accuracy"] for of in exports],
    }
    ours, alone = (dict(enumerate(accuracy[name])) for name in ("student", "alone"))
    gain = paired(ours, alone)
    first = runs[0]
    return {
        "what": "dlkd distill --with-baseline, then dlkd export --to onnx --int8",
        "data": {"name": Path(options.data).name, "test_images": exports[0]["check"]["images"]},
        "recipe": options.config,
        "student": first["student"],
        "student_weights": Path(options.weights).name if options.weights else None,
        "epochs": first["epochs"],
        "seeds": list(range(options.seeds)),
        "method": first["method"],
        "accuracy": {name: summary(values) for name, values in accuracy.items()},
        "gain": None if gain is None else gain._asdict(),
        "export": {
            "max_difference": max(of["check"]["max_difference"] for of in exports),
            "top1_agreement": min(of["check"]["top1_agreement"] for of in exports),
            "int8_top1_agreement": min(of["int8"]["check"]["top1_agreement"] for of in exports),
        },
        "parameters": {"student": first["parameters"]},
        "benchmark": exports[0]["benchmark"],
        "teacher": first["teacher"],
        **{key: first[key] for key in ("versions", "machine", "accelerator", "threads")},
    }


def summary(values: list[float]) -> dict[str, Any]:
    """Mean ± sd, and the value of each seed."""
    of = spread(values)
    return {"mean": of.mean, "sd": of.sd, "seeds": values}


def read(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text()))


if __name__ == "__main__":
    main()
