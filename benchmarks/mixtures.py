"""Does the pruned copy know anything that the teacher does not? No student is trained for the answer.

    python benchmarks/mixtures.py --data ROOT --human cifar100n.npz --out results/mixtures.json

z_t + b·(z_t − z_p), from the logits of teacher and probe: b = −0.3 is the 0.7/0.3 mixture of both, b above 0 goes on
from the probe beyond the teacher, as in contrastive decoding. A better lesson would be a better prediction of held-out
images, by the teachers of `results/teachers`, which have not seen them; plain views, crops and mixed pairs.

Of every b: the accuracy, and what it is worth over the teacher alone, in nats under the best temperature of each. The
same of the best b, and of the best b for each fifth of the level (distance, τ_d = ¼). Whatever is fitted, T or
b, is fitted to one half of the images and judged on the other, in turn. Standard errors are over images, or over pairs
where images are mixed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from score_answers import TEACHERS, Answers, add_places, read_images
from temperature_by_level import (
    FIFTHS,
    VIEWS,
    best_temperature,
    fifths_of,
    halves,
    labels_of,
    losses,
    mean_of,
    rounded,
)
from torch import Tensor

from dlkd.difficulty import DifficultyScore, ProbeSpec
from dlkd.files import write_json
from dlkd.jobs.card import machine

SPARSITIES = (0.1, 0.3, 0.5)
FACTORS = (-1.0, -0.5, -0.3, -0.1, 0.1, 0.3, 0.5, 1.0)
"""b; 0, the teacher alone, is among them wherever one is chosen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_places(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row for name in TEACHERS for row in measure(name, options)]
    settings = {"seed": options.seed, "fifths": FIFTHS}
    write_json(options.out, {"command": "mixtures", "settings": settings, "rows": rounded(rows), **machine()})


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of a teacher."""
    images = read_images(name, options.data, options.human, options.seed)
    answers, rows = Answers(name, images, options.teachers, options.cache), []
    score = DifficultyScore("distance", 0.25)
    for view in VIEWS:
        target, unit = labels_of(images, view)
        half = halves(unit, np.random.default_rng(options.seed))
        teacher = answers(view)
        for sparsity in SPARSITIES:
            probe = answers(view, ProbeSpec(sparsity))
            fifth = fifths_of(score(teacher, probe_logits=probe))
            found = mixtures(teacher.double(), probe.double(), target, unit, half, fifth)
            rows.append({"teacher": name, "view": view.name, "sparsity": sparsity, **found})
            nats = found["best"]["nats"]
            print(f"{name}, {view.name}, {sparsity}: {nats['mean']:+.4f} ± {nats['error']:.4f} nats", flush=True)
    return rows


def mixtures(
    teacher: Tensor, probe: Tensor, target: Tensor, unit: np.ndarray, half: np.ndarray, fifth: np.ndarray
) -> dict[str, Any]:
    """Every b, the best one, and the best one of each fifth."""
    at = {b: teacher + b * (teacher - probe) for b in (0.0, *FACTORS)}
    loss = {b: judged(z, target, half) for b, z in at.items()}

    def accuracy(z: Tensor) -> float:
        return 100 * float((z.argmax(dim=1) == target.argmax(dim=1)).double().mean())

    def best(where: np.ndarray) -> tuple[Tensor, list[float]]:
        """The loss of all images at ``where`` under the b that is best for those of the other half, and that b."""
        found, chosen = torch.zeros(len(teacher), dtype=torch.float64), []
        for part in (0, 1):
            here, there = where & (half == part), where & (half != part)
            chosen.append(min(at, key=lambda b: float(fitted(at[b], target, there)(there).sum())))
            found[here] = fitted(at[chosen[-1]], target, there)(here)
        return found, chosen

    one, b_of_all = best(np.ones(len(half), dtype=bool))
    each, b_of_each = torch.zeros_like(one), []
    for k in range(FIFTHS):
        found, chosen = best(fifth == k)
        each[fifth == k] = found[fifth == k]
        b_of_each.append(chosen)
    # A temperature for each fifth is no gain of the mixture: the teacher alone is given one as well.
    alone = torch.zeros_like(one)
    for k in range(FIFTHS):
        alone[fifth == k] = judged(teacher[fifth == k], target[fifth == k], half[fifth == k])
    return {
        "alone": {"accuracy": accuracy(teacher), "loss": float(loss[0.0].mean())},
        "factors": {
            f"{b:g}": {"accuracy": accuracy(at[b]), "nats": mean_of(loss[0.0] - loss[b], unit)} for b in FACTORS
        },
        "best": {"factors": b_of_all, "nats": mean_of(loss[0.0] - one, unit)},
        "by_fifth": {"factors": b_of_each, "nats": mean_of(alone - each, unit)},
    }


def judged(z: Tensor, target: Tensor, half: np.ndarray) -> Tensor:
    """Losses ``[N]`` under the temperature that is best for the other half."""
    found = torch.zeros(len(z), dtype=torch.float64)
    for part in (0, 1):
        found[half == part] = fitted(z, target, half != part)(half == part)
    return found


def fitted(z: Tensor, target: Tensor, there: np.ndarray) -> Callable[[np.ndarray], Tensor]:
    """Losses of any images under the temperature that is best for those at ``there``."""
    temperature = best_temperature(z[there], target[there])
    return lambda here: losses(z[here], target[here], temperature)


if __name__ == "__main__":
    main()
