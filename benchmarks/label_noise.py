"""Label noise on CIFAR-100: superclasses against the files, rates and concentration of every kind, and its time.

    python benchmarks/label_noise.py --data ROOT --human cifar100n.npz --out results/label_noise.json

ROOT holds `cifar-100-python/`; the labels are CIFAR-100N's, `CIFAR-100_human.pt` of its makers or the same as `.npz`.
One thread. The seconds are those of the labels alone, without reading the images; `effective` is the exponential of the
entropy of the wrong labels of a class, averaged over the classes: how many classes its wrong labels are spread over.
"""

from __future__ import annotations

import argparse
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dlkd.data import LabelNoise
from dlkd.data.noise import superclasses
from dlkd.data.sources import cifar
from dlkd.files import write_json
from dlkd.jobs.card import machine

SEEDS = (0, 1, 2)


def spread(transition: np.ndarray) -> float:
    """Over how many classes the wrong labels of a class are spread."""
    wrong = transition - np.diag(np.diag(transition))
    share = wrong / np.maximum(1, wrong.sum(axis=1, keepdims=True))
    return float(np.exp(-(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)).mean())


def row(noise: LabelNoise, train: Any, seed: int) -> dict[str, Any]:
    """What came out of one kind of noise."""
    started = time.perf_counter()
    _, report = noise.apply(train, train, seed, "cifar100")
    seconds = round(time.perf_counter() - started, 2)
    return {**report.to_dict(), "seed": seed, "effective": round(spread(report.transition), 1), "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--human", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train = cifar("cifar100", options.data, download=False).train
    # torchvision has just compared this file with its md5.
    official = pickle.loads((options.data / "cifar-100-python" / "train").read_bytes(), encoding="latin1")
    same = np.take(superclasses(train.class_names), official["fine_labels"]) == np.array(official["coarse_labels"])
    rows = [
        row(LabelNoise(kind, rate), train, seed)
        for kind in ("symmetric", "pair", "superclass", "instance")
        for rate in (0.2, 0.4)
        for seed in SEEDS
    ]
    rows.append(row(LabelNoise("human", file=options.human), train, 0))
    found = {"command": "python benchmarks/label_noise.py", "superclasses_as_in_the_files": bool(same.all())}
    write_json(options.out, {**found, **machine(), "rows": rows})
    for r in rows:
        asked = "" if r["asked"] is None else f"{100 * r['asked']:.0f} %"
        print(f"{r['kind']:<10} {asked:>5} seed {r['seed']}: {100 * r['realised']:.2f} %, {r['seconds']} s")


if __name__ == "__main__":
    main()
