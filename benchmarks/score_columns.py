"""Every score that is held against another, by name: which probes, which temperatures, which means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import torch
from scipy.stats import rankdata
from score_answers import Answers, View
from score_figures import Floats
from torch import Tensor

from dlkd.difficulty import DifficultyScore, ProbeSpec, ScoreName

SPARSITIES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SCOPES: tuple[Literal["global", "layer"], ...] = ("global", "layer")
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
DEFAULT = ProbeSpec()
MAGNITUDE = [ProbeSpec(s, scope) for scope in SCOPES for s in SPARSITIES]
RANDOM_SEEDS = {s: 8 if s <= 0.2 else 1 for s in SPARSITIES}
"""Eight masks where a network survives them."""
RANDOM = [ProbeSpec(s, "global", "random", k) for s, seeds in RANDOM_SEEDS.items() for k in range(seeds)]
RANDOM_LAYER = [ProbeSpec(s, "layer", "random") for s in SPARSITIES if s <= 0.5]
NORMS = [
    ProbeSpec(s, scope, norm=norm)
    for norm in ("batch", "recalibrated")
    for scope in SCOPES
    for s in (0.0, 0.1, 0.3)
    if s or scope == "global"
]
"""Those with nothing pruned show what the statistics do alone."""
VIEWED = [ProbeSpec(0.1), DEFAULT, ProbeSpec(0.5)]
"""Asked about augmented and mixed views too."""
PLAIN = View("plain")
WITHOUT_PROBE: tuple[ScoreName, ...] = ("max_probability", "entropy", "margin", "energy")
DISTANCE = DifficultyScore("distance")
DEFAULT_COLUMN, DOUBT_COLUMN = DISTANCE.column(DEFAULT.name), "max_probability/tau1"
LABEL_COLUMN = "cross_entropy/tau1"

Columns = dict[str, Floats]


def plain_columns(answers: Answers) -> Columns:
    """Every score of the plain images by its name."""
    teacher = answers(PLAIN)
    found = without_probe(teacher, TEMPERATURES)
    for spec in MAGNITUDE:
        found |= by_probe(teacher, answers(PLAIN, spec), spec.name, TEMPERATURES)
    for spec in (*RANDOM, *RANDOM_LAYER, *NORMS):
        found |= by_probe(teacher, answers(PLAIN, spec), spec.name, (1.0,))
    several = [DISTANCE.column(ProbeSpec(s).name) for s in (0.1, 0.2, 0.3, 0.4, 0.5)]
    found["global-0.1to0.5-mean5/l2/tau1"] = mean_over([found[column] for column in several])
    for sparsity, seeds in RANDOM_SEEDS.items():
        if seeds > 1:
            found[random_mean(sparsity)] = mean_over(singles(found, sparsity))
    return found


def view_columns(answers: Answers, view: View) -> Columns:
    """The scores of one augmented or mixed view."""
    teacher = answers(view)
    found = without_probe(teacher, (1.0,))
    for spec in VIEWED:
        found |= by_probe(teacher, answers(view, spec), spec.name, (1.0,))
    return found


def without_probe(teacher: Tensor, temperatures: Iterable[float]) -> Columns:
    """The scores that look at the teacher alone."""
    return {
        f"{name}/tau{t:g}": array(DifficultyScore(name, t)(teacher)) for name in WITHOUT_PROBE for t in temperatures
    }


def by_probe(teacher: Tensor, probe: Tensor, name: str, temperatures: Iterable[float]) -> Columns:
    """Distances of the probabilities at some temperatures, of the logits, and the Jensen-Shannon divergence."""
    wanted = [*(DifficultyScore("distance", t) for t in temperatures), DifficultyScore("js")]
    found = {score.column(name): array(score(teacher, probe_logits=probe)) for score in wanted}
    return {**found, f"{name}/logits": array(torch.linalg.vector_norm(teacher.double() - probe.double(), dim=1))}


def with_label(teacher: Tensor, given: Tensor, columns: Columns) -> Columns:
    """Scores that see the given label y.

    The last two are what label trust takes away from its weight, 1 − w = (1 − ℓ)·(max p − p_y), with the rank of two
    scores as the level ℓ.
    """
    p = torch.softmax(teacher.double(), dim=1)
    gap = array(p.amax(dim=1) - p.gather(1, given[:, None])[:, 0])
    found = {LABEL_COLUMN: array(DifficultyScore("cross_entropy")(teacher, target=given)), "max p − p_y": gap}
    for column in (DEFAULT_COLUMN, DOUBT_COLUMN):
        level = rankdata(columns[column]) / len(gap)
        found[f"(1 − level by {column})·(max p − p_y)"] = (1 - level) * gap
    return found


def probe_columns(columns: Columns) -> Columns:
    """Those that need a probe."""
    return {name: score for name, score in columns.items() if name.count("/") == 2 or name.endswith("/logits")}


def headline(columns: Columns) -> list[str]:
    """The few that more is said about."""
    names = ["entropy/tau1", "margin/tau1", "energy/tau1", DEFAULT_COLUMN, f"{DEFAULT.name}/js/tau1"]
    names += [DISTANCE.column(ProbeSpec(s).name) for s in (0.1, 0.5)]
    return [*names, *(name for name in columns if "-mean" in name)]


def singles(columns: Columns, sparsity: float) -> list[Floats]:
    """The distances by each of the random masks of a sparsity."""
    return [columns[DISTANCE.column(spec.name)] for spec in RANDOM if spec.sparsity == sparsity]


def random_mean(sparsity: float) -> str:
    """Name of the mean over all random masks of a sparsity."""
    return f"global-{sparsity:g}-random-mean{RANDOM_SEEDS[sparsity]}/l2/tau1"


def mean_over(scores: Sequence[Floats]) -> Floats:
    """1/K·Σ_k over several probes or views."""
    return np.asarray(np.mean(np.stack(scores), axis=0))


def array(score: Tensor) -> Floats:
    """As the figures take it."""
    return np.asarray(score.double().numpy())
