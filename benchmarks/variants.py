"""DLKD otherwise: what a difficulty could steer instead of one temperature for each sample, or beside it.

    PYTHONPATH=benchmarks dlkd compare --config studies/variants.yaml --run.data.root DATA --out runs/variants \
        --methods.mix.method dlkd+variants:MIX …  # the whole command stands in the page

Each is a method of our own (docs/add-a-method.md), and most are one choice of it, to be combined with the temperatures
of DLKD. None of them is in the package; docs/evidence.md says how far they have been run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dlkd.difficulty.level import DifficultyLevel
from dlkd.difficulty.score import DifficultyScore
from dlkd.difficulty.temperature import DifficultyTemperature
from dlkd.losses import Temperatures
from dlkd.losses.dkd import dkd_divergence
from dlkd.losses.relation import dist_relation
from dlkd.methods import Divergence, Method, Signals
from dlkd.methods.temperatures import TemperatureByDifficulty

Settings = dict[str, Any]
DLKD = {
    "t_easy": 2.0,
    "t_hard": 6.0,
    "score": "distance",
    "distance_temperature": 0.25,
    "ce_weight": 0.1,
    "kd_weight": 0.9,
}


def level_of(signals: Signals) -> Tensor:
    """``[B]``."""
    assert signals.level is not None, "DLKD's temperature asks for it"
    return signals.level


def mixture(share: float) -> Any:
    """The teacher's logits go towards those of the probe as the level rises: z_t + (1 − share)·2l·(z_p − z_t), whose
    mean share is that of a flat mixture."""

    def transform(x: Signals) -> Signals:
        assert x.probe_logits is not None
        towards = (1 - share) * 2 * level_of(x).to(x.teacher_logits).unsqueeze(1)
        return x._replace(teacher_logits=x.teacher_logits + towards * (x.probe_logits - x.teacher_logits))

    return transform


def parts(alpha: float, beta: float, *, rising: bool) -> Any:
    """α·TCKD + β·u·NCKD: the other classes count as the level rises, u = 2l, or as it falls, u = 2 − 2l."""

    def divergence(x: Signals, t: Temperatures) -> Divergence:
        u = 2 * level_of(x) if rising else 2 - 2 * level_of(x)
        found = dkd_divergence(x.student_logits, x.teacher_logits, x.target, t, alpha=alpha, beta=beta * u)
        return Divergence(found)

    return divergence


def rows_by_level(x: Signals, t: Temperatures) -> Divergence:
    """DIST whose columns, which compare samples, have one temperature: the geometric mean of the batch."""
    one = t.student.log().mean().exp().expand(1, 1)
    rows = dist_relation(x.student_logits, x.teacher_logits, t).rows
    return Divergence(rows, dist_relation(x.student_logits, x.teacher_logits, Temperatures(one, one)).columns)


def _rule(kind: type[TemperatureByDifficulty]) -> Any:
    def build(s: Settings) -> TemperatureByDifficulty:
        score = DifficultyScore(s["score"], s["distance_temperature"])
        mapping = DifficultyTemperature(s["t_easy"], s["t_hard"], 1.0)
        return kind(mapping, DifficultyLevel("rank", score.bound), score)

    return build


class OthersByLevel(TemperatureByDifficulty):
    """The label's logit has one temperature, √(T_easy·T_hard); those of the other classes have that of the level."""

    def forward(self, signals: Signals) -> Temperatures:
        """``[B, C]``; between the two by the shares of a soft label."""
        others = super().forward(signals).student
        target = signals.target
        if not target.is_floating_point():
            target = torch.nn.functional.one_hot(target, signals.student_logits.shape[1])
        t = others * (_middle(self) / others) ** target.to(others)
        return Temperatures(t, t)


class Widening(TemperatureByDifficulty):
    """A curriculum: all temperatures are √(T_easy·T_hard) at first, and go to those of their levels over ten epochs."""

    reached = 0.0

    def start_epoch(self, epoch: int) -> None:
        """Counted from 0."""
        self.reached = min(1.0, (epoch + 1) / 10)

    def forward(self, signals: Signals) -> Temperatures:
        """``[B, 1]``."""
        full = super().forward(signals).student
        t = _middle(self) * (full / _middle(self)) ** self.reached
        return Temperatures(t, t)


def _middle(rule: TemperatureByDifficulty) -> Tensor:
    ends: Tensor = rule.mapping(torch.tensor([0.0, 1.0]))
    return ends.prod().sqrt()


MIX = Method(
    "KL of the mixture z_t + 2l(1 − share)(z_p − z_t)",
    "here",
    {"share": 0.7},
    transform=lambda s: mixture(s["share"]),
    uses_probe=True,
)


def _of_dkd(formula: str, *, rising: bool) -> Method:
    return Method(
        formula,
        "here",
        {"alpha": 1.0, "beta": 8.0, "ce_weight": 1.0, "kd_weight": 1.0, "warmup_epochs": 1.0},
        divergence=lambda s: parts(s["alpha"], s["beta"], rising=rising),
        uses_labels=True,
    )


PARTS = _of_dkd("α·TCKD + 2l·β·NCKD", rising=True)
PARTS_OF_EASY = _of_dkd("α·TCKD + (2 − 2l)·β·NCKD", rising=False)
ROWS = Method(
    "DIST, columns at one temperature",
    "here",
    {"ce_weight": 1.0, "kd_weight": 2.0},
    divergence=lambda s: rows_by_level,
)
OTHERS = Method(
    "KL, T by level for the other classes", "here", DLKD, temperature=_rule(OthersByLevel), uses_labels=True
)
WIDENING = Method("KL, T by level, more so as epochs go by", "here", DLKD, temperature=_rule(Widening))
