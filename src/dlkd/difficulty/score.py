"""What can be called the difficulty of an image: the probe distance, and cheaper scores to hold it against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dlkd.difficulty.distance import MAX_DISTANCE, probe_distance
from dlkd.difficulty.probe_spec import column_name
from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.kl import check_pair
from dlkd.losses.precision import frozen, full_precision, no_autocast
from dlkd.losses.rules import energy
from dlkd.losses.weights import entropy

ScoreName = Literal["distance", "js", "entropy", "max_probability", "margin", "energy", "cross_entropy"]


def js_divergence(teacher_logits: Tensor, probe_logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """½·KL(p || m) + ½·KL(q || m), m = (p + q)/2, of softmax(z_t/τ) and softmax(z_p/τ), ``[B]`` in [0, log 2] nats.

    Source: Lin, "Divergence measures based on the Shannon entropy", 1991.
    """
    check_pair(teacher_logits, probe_logits)
    with torch.no_grad(), no_autocast(teacher_logits):
        log_p, log_q = (_log_softmax(z, temperature) for z in (teacher_logits, probe_logits))
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        both = log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)
        return (both.sum(dim=1) / 2).clamp(0, math.log(2))


def _log_softmax(logits: Tensor, temperature: float) -> Tensor:
    return torch.log_softmax(full_precision(frozen(logits)) / temperature, dim=1)


def _entropy(logits: Tensor, temperature: float) -> Tensor:
    return entropy(logits, temperature) / math.log(logits.shape[1])


def _doubt(logits: Tensor, temperature: float) -> Tensor:
    return _without_largest(logits, temperature).sum(dim=1)


def _margin(logits: Tensor, temperature: float) -> Tensor:
    others = _without_largest(logits, temperature)
    return others.sum(dim=1) + others.amax(dim=1)


def _without_largest(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities with the largest set to 0: their sum keeps the digits that 1 − max p would lose."""
    p = _log_softmax(logits, temperature).exp()
    return p.scatter(1, p.argmax(dim=1, keepdim=True), 0.0)


class _Kind(NamedTuple):
    needs: Literal["probe", "teacher", "label"]
    bound: float | None
    """Largest value, where there is one for all numbers of classes."""
    of: Callable[..., Tensor]
    column: str = ""


_KINDS: dict[ScoreName, _Kind] = {
    "distance": _Kind("probe", MAX_DISTANCE, probe_distance, "l2"),
    "js": _Kind("probe", math.log(2), js_divergence, "js"),
    "entropy": _Kind("teacher", 1.0, _entropy),
    "max_probability": _Kind("teacher", 1.0, _doubt),
    "margin": _Kind("teacher", 1.0, _margin),
    "energy": _Kind("teacher", None, energy),
    "cross_entropy": _Kind("label", None, lambda logits, target, t: cross_entropy(frozen(logits).float() / t, target)),
}
PROBE_SCORES: tuple[ScoreName, ...] = tuple(name for name, kind in _KINDS.items() if kind.needs == "probe")
SHARED_TEMPERATURES = (0.25, 1.0)
"""Temperatures at which every store keeps the scores of the probe, so that runs of either can share it."""


@dataclass(frozen=True)
class DifficultyScore:
    """One number for each image, larger for harder ones, from what the teacher says.

    | name | formula, p = softmax(z_t/τ) | needs |
    |---|---|---|
    | ``distance`` | ‖p − q‖₂, q of the pruned copy: :func:`probe_distance` | probe |
    | ``js`` | Jensen-Shannon divergence of p and q, nats: :func:`js_divergence` | probe |
    | ``entropy`` | −Σ p log p / log C | |
    | ``max_probability`` | 1 − max p | |
    | ``margin`` | 1 − (largest p − second p) | |
    | ``energy`` | −τ·log Σ exp(z_t/τ); not invariant to a constant added to the logits | |
    | ``cross_entropy`` | −Σ y log p for the given label y | label |

    Args:
        name: see the table.
        temperature: τ.

    Raises:
        ValueError: an unknown name, or a temperature that is not positive.
    """

    name: ScoreName = "distance"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in get_args(ScoreName):
            raise ValueError(f"expected score to be one of {list(get_args(ScoreName))}, but got {self.name!r}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"expected distance_temperature to be positive, but got {self.temperature}")

    @property
    def needs(self) -> Literal["probe", "teacher", "label"]:
        """What it looks at besides the teacher's logits."""
        return _KINDS[self.name].needs

    @property
    def bound(self) -> float | None:
        """Its largest value; None where there is none."""
        return _KINDS[self.name].bound

    def column(self, probe: str) -> str:
        """Name of its column for the probe ``probe``, as ``global-0.3/l2/tau1``."""
        return column_name(probe, self.temperature, _KINDS[self.name].column)

    @torch.no_grad()
    def __call__(
        self, teacher_logits: Tensor, *, probe_logits: Tensor | None = None, target: Tensor | None = None
    ) -> Tensor:
        """The difficulty ``[B]``, fp32, without gradient.

        Args:
            teacher_logits: ``[B, C]``.
            probe_logits: ``[B, C]``, for ``distance`` and ``js``.
            target: class numbers ``[B]`` or soft labels ``[B, C]``, for ``cross_entropy``.

        Raises:
            ValueError: what the score needs is missing.
        """
        kind = _KINDS[self.name]
        if kind.needs == "probe":
            if probe_logits is None:
                raise ValueError(f"expected probe_logits for the difficulty by {self.name}, but got none")
            return kind.of(teacher_logits, probe_logits, temperature=self.temperature).float()
        if kind.needs == "label":
            if target is None:
                raise ValueError(f"expected a target for the difficulty by {self.name}, but got none")
            return kind.of(teacher_logits, target, self.temperature).float()
        return kind.of(frozen(teacher_logits), self.temperature).float()
