"""Accuracy and distance of pruned copies of a real CIFAR-100 teacher on the whole test set.

    python benchmarks/probe_accuracy.py --data ROOT --weights cifar100_resnet56.pth --out results/probe_accuracy.json

ROOT holds `cifar-100-python/`, the official layout. The weights are public ones (`pytorch-cifar-models`). Nothing is
chosen by these figures: they check the pruning, and show what the statistics of batch normalisation do to a distance.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import torch
import torchvision
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torchvision.datasets import CIFAR100

import dlkd
from dlkd.difficulty import ProbeSpec, column_name, probe_distance
from dlkd.evaluate import accuracy
from dlkd.files import write_atomic
from dlkd.models import cifar_resnet, load_weights

MEAN, STD = (0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)
PROBES = (
    ProbeSpec(0.3, "global"),
    ProbeSpec(0.5, "global"),
    ProbeSpec(0.1, "layer"),
    ProbeSpec(0.3, "layer"),
    ProbeSpec(0.1, "layer", norm="batch"),
    ProbeSpec(0.1, "layer", norm="recalibrated"),
    ProbeSpec(0.05, "layer", "channels"),
    ProbeSpec(0.1, "layer", "channels"),
    ProbeSpec(0.1, "global", "channels"),
    ProbeSpec(0.3, "layer", "channels"),
    ProbeSpec(0.1, "layer", "channels", norm="recalibrated"),
)
QUANTILES = (0.1, 0.5, 0.9, 0.95)
TEMPERATURE = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cifar-100-python/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="resnet56", help="architecture of the weights (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=500, help="also of the statistics of a batch")
    parser.add_argument("--recalibration-images", type=int, default=2000, help="plain training images, drawn by seed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    started = time.monotonic()
    teacher = cifar_resnet(options.model, 100).requires_grad_(False).eval()
    load_weights(teacher, options.weights)
    images, labels = load(options.data, train=False)
    recalibration = some_training_images(options)
    rows = measure(teacher, images, labels, recalibration, options.batch_size)
    print_table(rows)
    result = {**card(options), "seconds": round(time.monotonic() - started, 1), "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, json.dumps(result, indent=2) + "\n")


def load(root: Path, *, train: bool) -> tuple[Tensor, Tensor]:
    """Images ``[N, 3, 32, 32]`` in the teacher's input format, and labels ``[N]``."""
    data = CIFAR100(root, train=train)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (images - mean) / std, torch.tensor(data.targets)


def some_training_images(options: argparse.Namespace) -> list[Tensor]:
    """Batches of un-augmented training images for recalibration."""
    images, labels = load(options.data, train=True)
    order = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(options.seed))
    return list(torch.split(images[order[: options.recalibration_images]], options.batch_size))


@torch.no_grad()
def logits(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """``[N, C]`` of a model in eval mode."""
    return torch.cat([model(part) for part in torch.split(images, batch_size)])


def measure(
    teacher: nn.Module, images: Tensor, labels: Tensor, recalibration: list[Tensor], batch_size: int
) -> list[dict[str, object]]:
    """One row for the teacher, one for each probe."""
    expected = logits(teacher, images, batch_size)
    wrong = (expected.argmax(dim=1) != labels).numpy()
    doubt = 1 - torch.softmax(expected, dim=1).amax(dim=1)
    one_batch = images[:batch_size]
    rows: list[dict[str, object]] = [{"model": "teacher", "accuracy": accuracy(expected, labels)}]
    for spec in PROBES:
        probe = spec.make(teacher, recalibration)
        got = logits(probe, images, batch_size)
        distance = probe_distance(expected, got, temperature=TEMPERATURE).double()
        quantiles = torch.quantile(distance, torch.tensor(QUANTILES, dtype=torch.float64)).tolist()
        rows.append(
            {
                "model": spec.name,
                "accuracy": accuracy(got, labels),
                "column": column_name(spec.name, TEMPERATURE),
                "auroc_of_teacher_errors": float(roc_auc_score(wrong, distance)),
                "spearman_with_doubt": float(spearmanr(distance, doubt).statistic),
                "time_of_teacher": time_ratio(probe, teacher, one_batch),
                "distance_mean": distance.mean().item(),
                "distance_quantiles": {f"{q:g}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
            }
        )
    return rows


@torch.no_grad()
def time_ratio(probe: nn.Module, teacher: nn.Module, images: Tensor, rounds: int = 5) -> float:
    """Median over the rounds of the time of the probe ÷ that of the teacher."""
    ratios = []
    for _ in range(rounds):
        seconds = []
        for model in (probe, teacher):
            began = time.perf_counter()
            model(images)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


def card(options: argparse.Namespace) -> dict[str, object]:
    """What was run, with what, on what; names of files only, no folders."""
    return {
        "command": "benchmarks/probe_accuracy.py",
        "settings": {
            "weights": options.weights.name,
            "model": options.model,
            "test_images": 10_000,
            "batch_size": options.batch_size,
            "recalibration_images": options.recalibration_images,
            "seed": options.seed,
        },
        "versions": {
            "dlkd": dlkd.__version__,
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores, no accelerator used",
    }


def print_table(rows: list[dict[str, object]]) -> None:
    quantiles = " ".join(f"{f'd {100 * q:g} %':>9}" for q in QUANTILES)
    print(f"{'model':<28} {'top-1 %':>8} {'d mean':>9} {quantiles}")
    for row in rows:
        line = f"{row['model']:<28} {row['accuracy']:8.2f}"
        values = row.get("distance_quantiles")
        if isinstance(values, dict):
            line += f" {row['distance_mean']:9.5f} " + " ".join(f"{value:9.5f}" for value in values.values())
        print(line)


if __name__ == "__main__":
    main()
