"""Which temperature do the labels ask for, at each level of difficulty? No student is trained for the answer.

    python benchmarks/temperature_by_level.py --data ROOT --human cifar100n.npz --out results/temperature-by-level.json

The best prediction that a teacher has for an image is softmax(z/T) with the T that makes the labels likeliest, that of
its calibration. If a lesson should be sharp on easy images and soft on hard ones, that T must rise with the level. The
5,000 held-out images, the teachers of `results/teachers`, which have not seen them; plain views, crops and mixed pairs.

Images stand in fifths of the level, by distance (τ_d = ¼ and 1) and by the teacher's own doubt. Of each fifth: T by the
true labels, with a bootstrap interval over images (over pairs where images are mixed), and by the labels as given, with
their noise as the model of what is wrong (symmetric, at its measured share). And what a temperature for each fifth is
worth over one for all: nats on images that it was not fitted to, two halves in turn, with the standard error over
images, or over pairs.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from score_answers import TEACHERS, Answers, Images, View, add_places, mixed, read_images
from torch import Tensor

from dlkd.difficulty import DifficultyScore, ProbeSpec
from dlkd.files import write_json
from dlkd.jobs.card import machine

VIEWS = (View("plain"), View("crop_flip", 0), View("cutmix"))
SCORES = {
    "distance, τ = ¼": DifficultyScore("distance", 0.25),
    "distance, τ = 1": DifficultyScore("distance", 1.0),
    "1 − max p": DifficultyScore("max_probability"),
}
FIFTHS = 5
LOW, HIGH = 0.05, 20.0
"""Where temperatures are looked for."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_places(parser)
    parser.add_argument("--bootstrap", type=int, default=200, help="samples (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in TEACHERS for row in measure(name, options)]
    settings = {"bootstrap": options.bootstrap, "seed": options.seed, "fifths": FIFTHS}
    write_json(
        options.out, {"command": "temperature_by_level", "settings": settings, "rows": rounded(rows), **machine()}
    )


def rounded(value: Any) -> Any:
    """Four significant digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of a teacher."""
    images = read_images(name, options.data, options.human, options.seed)
    answers, rows = Answers(name, images, options.teachers, options.cache), []
    for view in VIEWS:
        target, unit = labels_of(images, view)
        logits, probe = answers(view), answers(view, ProbeSpec(0.3))
        for score, of in SCORES.items():
            fifth = fifths_of(of(logits, probe_logits=probe if of.needs == "probe" else None))
            row = {"teacher": name, "view": view.name, "score": score}
            rows.append(row | by_level(logits.double(), target, unit, fifth, options))
            if view.kind != "cutmix":
                wrong = float(images.wrong.mean())
                rows[-1]["given"] = [
                    likeliest(logits[fifth == k], images.given[fifth == k], wrong) for k in range(FIFTHS)
                ]
            fifths = "  ".join(f"{each['t']:.2f}" for each in rows[-1]["fifths"])
            print(f"{name}, {view.name}, by {score}: T {fifths}", flush=True)
    return rows


def labels_of(images: Images, view: View) -> tuple[Tensor, np.ndarray]:
    """True labels ``[N, C]``, shared where images are mixed, and the unit ``[N]`` that the bootstrap draws."""
    samples = images.samples
    if view.kind != "cutmix":
        return torch.nn.functional.one_hot(samples.labels, len(samples.class_names)).double(), np.arange(len(samples))
    found = mixed(samples, view)
    return found.target.double(), found.pair


def fifths_of(difficulty: Tensor) -> np.ndarray:
    """``[N]``: the fifth of each image by the rank of its difficulty, from 0 for the easiest."""
    rank = difficulty.argsort().argsort()
    fifth: np.ndarray = (rank * FIFTHS // len(rank)).numpy()
    return fifth


def halves(unit: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """``[N]`` of 0 and 1: two halves of the units, drawn at random."""
    half: np.ndarray = draw.permutation(unit.max() + 1)[unit] % 2
    return half


def mean_of(difference: Tensor, unit: np.ndarray) -> dict[str, float]:
    """Mean and its standard error over the units that were drawn: images, or the means of pairs. Both ``[N]``."""
    size = torch.from_numpy(np.bincount(unit))
    drawn = difference.new_zeros(len(size)).index_add(0, torch.from_numpy(unit), difference) / size
    return {"mean": float(drawn.mean()), "error": float(drawn.std() / math.sqrt(len(drawn)))}


def by_level(
    z: Tensor, target: Tensor, unit: np.ndarray, fifth: np.ndarray, options: argparse.Namespace
) -> dict[str, Any]:
    """T of each fifth by the true labels, with its interval, and what it is worth over one T for all."""
    draw = np.random.default_rng(options.seed)
    found = []
    for k in range(FIFTHS):
        at = np.flatnonzero(fifth == k)
        units, place = np.unique(unit[at], return_inverse=True)
        drawn = [
            best_temperature(
                z[at],
                target[at],
                torch.from_numpy(np.bincount(draw.integers(len(units), size=len(units)), minlength=len(units))[place]),
            )
            for _ in range(options.bootstrap)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975])
        accuracy = 100 * float((z[at].argmax(dim=1) == target[at].argmax(dim=1)).double().mean())
        found.append(
            {"t": best_temperature(z[at], target[at]), "low": float(low), "high": float(high), "accuracy": accuracy}
        )
    flat = best_temperature(z, target)
    loss = float(losses(z, target, flat).mean())
    return {"fifths": found, "all": flat, "loss": loss, "nats": worth(z, target, unit, fifth, draw)}


def worth(
    z: Tensor, target: Tensor, unit: np.ndarray, fifth: np.ndarray, draw: np.random.Generator
) -> dict[str, float]:
    """Mean loss with one T less that with one for each fifth, each fitted to the other half; mean and its error."""
    half = halves(unit, draw)
    gain = torch.zeros(len(z), dtype=torch.float64)
    for part in (0, 1):
        here, there = half == part, half != part
        flat = best_temperature(z[there], target[there])
        gain[here] = losses(z[here], target[here], flat)
        for k in range(FIFTHS):
            fitted, judged = there & (fifth == k), here & (fifth == k)
            gain[judged] -= losses(z[judged], target[judged], best_temperature(z[fitted], target[fitted]))
    return mean_of(gain, unit)


def losses(z: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Cross-entropies ``[N]``."""
    return -(target * torch.log_softmax(z / temperature, dim=1)).sum(dim=1)


def best_temperature(z: Tensor, target: Tensor, weight: Tensor | None = None) -> float:
    """argmin over T of Σ w_i·CE(target_i, softmax(z_i/T)): convex in b = 1/T, so by Newton's steps on its derivative
    Σ w_i·(E_p[z_i] − ⟨target_i, z_i⟩), which is Σ w_i·Var_p[z_i] after one more."""
    w = z.new_ones(len(z)) if weight is None else weight.to(z)
    wanted, b = (target * z).sum(dim=1), 1.0
    for _ in range(60):
        p = torch.softmax(b * z, dim=1)
        mean = (p * z).sum(dim=1)
        slope = float((w * (mean - wanted)).sum())
        curve = float((w * ((p * z.square()).sum(dim=1) - mean.square())).sum())
        step = max(min(slope / max(curve, 1e-12), b / 2), -b)  # never more than half-way to 0, or twice as far
        b = min(max(b - step, 1 / HIGH), 1 / LOW)
        if abs(step) < 1e-9 * b:
            break
    return 1 / b


def likeliest(z: Tensor, given: Tensor, wrong: float) -> float:
    """T under which the labels as given are likeliest if a share of them was moved to any other class: on a grid."""
    rest = wrong / (z.shape[1] - 1)

    def cost(t: float) -> float:
        p = torch.softmax(z.double() / t, dim=1).gather(1, given.unsqueeze(1))
        return float(-torch.log((1 - wrong - rest) * p + rest).mean())

    return min(grid(), key=cost)


def grid() -> Sequence[float]:
    """Sixty temperatures in equal ratios."""
    return [LOW * (HIGH / LOW) ** (k / 59) for k in range(60)]


if __name__ == "__main__":
    main()
