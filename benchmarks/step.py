"""What weight 9 does at one learning rate to students that begin with trained weights, or have few steps.

    python benchmarks/step.py --cars CARS --teacher runs/cars-teacher --weights efficientnet_lite0.safetensors \
        --work runs/step-students --out results/step-students.json

Each row is a `dlkd distill` run in WORK, scored on held-out images. *cars*: EfficientNet-Lite0 with ImageNet's weights
on 48 classes of Stanford Cars, the teacher of the recipe stanford-cars/teacher. *patches*: resnet10t from random
weights on 200 patches of the two photographs of docs/tutorial.md. What is finished is not run again.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from dlkd.cli import main as dlkd
from dlkd.files import write_json

ROOT = Path(__file__).parents[1]
NINE = "--loss.kd_weight 9 --loss.ce_weight 0.1"
CARS = {
    "weight 9, clipped to norm 1": f"{NINE} --optim.lr 0.05 --optim.clip 1",
    "the same ratio, sum 1": "--loss.kd_weight 0.989 --loss.ce_weight 0.011 --optim.lr 0.05",
    "no teacher": "--method ce --optim.lr 0.05",
}
PATCHES = {
    "weight 9": f"{NINE} --optim.lr 0.05",
    "weight 9, one cycle": f"{NINE} --optim.lr 0.05 --optim.schedule one_cycle",
    "weight 9, rate over 9.1": f"{NINE} --optim.lr 0.0055",
    "KD": "--method kd --optim.lr 0.05",
    "no teacher": "--method ce --optim.lr 0.05",
}
SCORED = "--score_on held_out --engine.report false --device cpu --engine.threads 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cars", required=True, help="folder with one sub-folder of images a class")
    parser.add_argument("--teacher", required=True, help="the run of its teacher")
    parser.add_argument("--weights", required=True, help="that the student of cars begins with")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    photos = patches(options.work)
    of_cars = ["--data", options.cars, "--teacher", options.teacher, "--student.weights", options.weights]
    of_cars += "--student tf_efficientnet_lite0 --data.test_share 0.3 --epochs 6".split()
    few = ["--data", str(photos), "--teacher", str(options.work / "patches-teacher")]
    few += "--student timm:resnet10t --data.held_out 0.3 --data.workers 0 --epochs 20 --force".split()
    rows = [row(options.work, "cars", name, said, of_cars, (0,)) for name, said in CARS.items()]
    rows += [row(options.work, "patches", name, said, few, (0, 1)) for name, said in PATCHES.items()]
    write_json(options.out, {"rows": rows})
    print(json.dumps(rows, indent=1))


def patches(work: Path) -> Path:
    """The folder of patches, made by the tutorial's own block, and a teacher of it."""
    folder = work / "photos"
    if not folder.is_dir():
        page = (ROOT / "docs" / "tutorial.md").read_text()
        block = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "load_sample_images" in b)
        exec(compile(block.replace('Path("photos")', f"Path({str(folder)!r})"), "docs/tutorial.md", "exec"), {})
    if not (work / "patches-teacher" / "results.json").is_file():
        said = "--model timm:resnet18 --data.image_size 32 --data.workers 0 --epochs 8 --device cpu --engine.threads 1"
        dlkd(["train", "--data", str(folder), *said.split(), "--out", str(work / "patches-teacher")])
    return folder


def row(work: Path, data: str, name: str, said: str, common: list[str], seeds: tuple[int, ...]) -> dict[str, Any]:
    """Held-out accuracy, in %, of each seed of a row."""
    found: dict[str, Any] = {}
    for seed in seeds:
        out = work / f"{data}-{re.sub(r'[^a-z0-9]+', '-', name.lower())}-{seed}"
        if not (out / "results.json").is_file():
            dlkd(["distill", *common, *said.split(), *SCORED.split(), "--seed", str(seed), "--out", str(out)])
        found[str(seed)] = json.loads((out / "results.json").read_text())
    first = found[str(seeds[0])]
    return {
        "data": data,
        "row": name,
        "options": said,
        "epochs": first["epochs"],
        "accuracy": {seed: of["held_out"]["accuracy"] for seed, of in found.items()},
        **{key: first[key] for key in ("student", "versions", "machine", "threads")},
    }


if __name__ == "__main__":
    main()
