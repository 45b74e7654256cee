"""Every score that is held against another, by name: which probes, which temperatures, which means."""

from __future__ import annotations

import re
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
TEMPERATURES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
SHARP = 0.25
"""Below 1, added after a first look at 1 to 8; what is chosen among all is therefore judged on other images."""
PROBE = ProbeSpec(0.3)
"""This and τ_d = 1 were the defaults when the figures were made; written out, as defaults may change."""
MAGNITUDE = [ProbeSpec(s, scope) for scope in SCOPES for s in SPARSITIES]
RANDOM_SEEDS = {0.01: 8, 0.02: 8, **{s: 8 if s <= 0.1 else 1 for s in SPARSITIES}}
"""Eight masks where a network may survive them; it does at 1 and 2 %."""
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
VIEWED = [ProbeSpec(0.1), PROBE, ProbeSpec(0.5)]
"""Asked about augmented and mixed views too."""
PLAIN = View("plain")
WITHOUT_PROBE: tuple[ScoreName, ...] = ("max_probability", "entropy", "margin", "energy")
DISTANCE = DifficultyScore("distance", 1.0)
DISTANCES = (DISTANCE, DifficultyScore("distance", SHARP))
"""Those of every probe; the others are of the probes by magnitude alone."""
DISTANCE_COLUMN, SHARP_COLUMN = (score.column(PROBE.name) for score in DISTANCES)
DOUBT_COLUMN = "max_probability/tau1"
LABEL_COLUMN = "cross_entropy/tau1"

Columns = dict[str, Floats]


def plain_columns(answers: Answers) -> Columns:
    """Every score of the plain images by its name."""
    teacher = answers(PLAIN)
    found = without_probe(teacher, TEMPERATURES)
    for spec in MAGNITUDE:
        found |= by_probe(teacher, answers(PLAIN, spec), spec.name, TEMPERATURES)
    for spec in (*RANDOM, *RANDOM_LAYER, *NORMS):
        found |= {d.column(spec.name): array(d(teacher, probe_logits=answers(PLAIN, spec))) for d in DISTANCES}
    for distance in DISTANCES:
        several = [found[distance.column(ProbeSpec(s).name)] for s in (0.1, 0.2, 0.3, 0.4, 0.5)]
        found[distance.column("global-0.1to0.5-mean5")] = mean_over(several)
        for sparsity, seeds in RANDOM_SEEDS.items():
            if seeds > 1:
                found[random_mean(sparsity, distance)] = mean_over(singles(found, sparsity, distance))
    return found


def view_columns(answers: Answers, view: View) -> Columns:
    """The scores of one augmented or mixed view."""
    teacher = answers(view)
    found = without_probe(teacher, (1.0,))
    for spec in VIEWED:
        found |= by_probe(teacher, answers(view, spec), spec.name, (SHARP, 1.0))
    return found


def without_probe(teacher: Tensor, temperatures: Iterable[float]) -> Columns:
    """The scores that look at the teacher alone."""
    return {
        f"{name}/tau{t:g}": array(DifficultyScore(name, t)(teacher)) for name in WITHOUT_PROBE for t in temperatures
    }


def by_probe(teacher: Tensor, probe: Tensor, name: str, temperatures: Iterable[float]) -> Columns:
    """Distances of the probabilities at some temperatures, Jensen-Shannon divergence, 1 − cos(p, q), ‖z_t − z_p‖₂."""
    wanted = [*(DifficultyScore("distance", t) for t in temperatures), DifficultyScore("js")]
    found = {score.column(name): array(score(teacher, probe_logits=probe)) for score in wanted}
    z, z_probe = teacher.double(), probe.double()
    cosine = torch.cosine_similarity(torch.softmax(z, dim=1), torch.softmax(z_probe, dim=1))
    found[f"{name}/cosine"] = array(1 - cosine)
    return {**found, f"{name}/logits": array(torch.linalg.vector_norm(z - z_probe, dim=1))}


def with_label(teacher: Tensor, given: Tensor, columns: Columns) -> Columns:
    """Scores that see the given label y.

    The last are what label trust takes away from its weight, 1 − w = (1 − ℓ)·(max p − p_y), with the rank of three
    scores as the level ℓ.
    """
    p = torch.softmax(teacher.double(), dim=1)
    gap = array(p.amax(dim=1) - p.gather(1, given[:, None])[:, 0])
    found = {LABEL_COLUMN: array(DifficultyScore("cross_entropy")(teacher, target=given)), "max p − p_y": gap}
    for column in (DISTANCE_COLUMN, SHARP_COLUMN, DOUBT_COLUMN):
        level = rankdata(columns[column]) / len(gap)
        found[f"(1 − level by {column})·(max p − p_y)"] = (1 - level) * gap
    return found


def shown(columns: Columns) -> Columns:
    """All but the later ones of several random masks, of which the mean and its spread are told."""
    return {name: score for name, score in columns.items() if not re.search(r"-random[1-9]/", name)}


def with_probe(columns: Columns) -> Columns:
    """Those that need a probe."""
    return {name: score for name, score in columns.items() if name.split("/")[0] not in WITHOUT_PROBE}


def headline(columns: Columns) -> list[str]:
    """The few that more is said about."""
    names = ["entropy/tau1", "margin/tau1", "energy/tau1", DISTANCE_COLUMN, SHARP_COLUMN, f"{PROBE.name}/js/tau1"]
    return [*names, *(name for name in columns if "-mean" in name)]


def singles(columns: Columns, sparsity: float, distance: DifficultyScore) -> list[Floats]:
    """The distances by each of the random masks of a sparsity."""
    return [columns[distance.column(spec.name)] for spec in RANDOM if spec.sparsity == sparsity]


def random_mean(sparsity: float, distance: DifficultyScore) -> str:
    """Name of the mean over all random masks of a sparsity."""
    return distance.column(f"global-{sparsity:g}-random-mean{RANDOM_SEEDS[sparsity]}")


def mean_over(scores: Sequence[Floats]) -> Floats:
    """1/K·Σ_k over several probes or views."""
    return np.asarray(np.mean(np.stack(scores), axis=0))


def array(score: Tensor) -> Floats:
    """As the figures take it."""
    return np.asarray(score.double().numpy())
