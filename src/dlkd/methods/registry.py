"""The named methods with their published defaults."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dlkd.difficulty.level import LevelMode
from dlkd.errors import UserError
from dlkd.methods.composition import Composition, FixedTemperature
from dlkd.methods.dlkd import DLKDLoss


@dataclass(frozen=True)
class LossOptions:
    """Settings of the method; what is not given is the method's default.

    Attributes:
        temperature: of kd.
        t_easy: temperature of the easiest samples, of dlkd.
        t_hard: temperature of the hardest samples, of dlkd; below t_easy for the opposite direction.
        gamma: bends the way from easy to hard, of dlkd.
        level: how a distance becomes a level in [0, 1], of dlkd.
        scale: what undoes the temperature's effect on the gradient, of dlkd.
        distance_temperature: softmax temperature of the distance between teacher and probe, of dlkd.
        ce_weight: of the given labels.
        kd_weight: of the teacher.
    """

    temperature: float | None = None
    t_easy: float | None = None
    t_hard: float | None = None
    gamma: float | None = None
    level: LevelMode | None = None
    scale: Literal["per_sample", "mean", "none"] | None = None
    distance_temperature: float | None = None
    ce_weight: float | None = None
    kd_weight: float | None = None


@dataclass(frozen=True)
class Method:
    """One method: its formula, where it is from, and its defaults, whose names are those of its options."""

    formula: str
    reference: str
    build: Callable[..., Composition]
    defaults: dict[str, Any] = field(default_factory=dict)


def _ce(ce_weight: float) -> Composition:
    return Composition(None, label_weight=ce_weight, kd_weight=0.0)


def _kd(temperature: float, ce_weight: float, kd_weight: float) -> Composition:
    return Composition(FixedTemperature(temperature), label_weight=ce_weight, kd_weight=kd_weight)


METHODS: dict[str, Method] = {
    "ce": Method("CE(z_s, y)", "no teacher", _ce, {"ce_weight": 1.0}),
    "kd": Method(
        "w_ce·CE(z_s, y) + w_kd·T²·KL(softmax(z_t/T) || softmax(z_s/T))",
        "Hinton et al. 2015; CIFAR-100 defaults of mdistiller",
        _kd,
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    ),
    "dlkd": Method(
        "w_ce·CE(z_s, y) + w_kd·s_i·KL(softmax(z_t/T_i) || softmax(z_s/T_i)), T_i = T_easy + (T_hard − T_easy)·ℓ_i^γ",
        "after Difficulty level-based knowledge distillation, Neurocomputing 2024; mapping and defaults are ours",
        DLKDLoss,
        {
            "t_easy": 2.0,
            "t_hard": 6.0,
            "gamma": 1.0,
            "level": "rank",
            "scale": "per_sample",
            "ce_weight": 0.1,
            "kd_weight": 0.9,
            "distance_temperature": 1.0,
        },
    ),
}


def resolve_loss(name: str, options: LossOptions) -> dict[str, Any]:
    """Every setting of the method, its defaults filled in.

    Raises:
        UserError: an unknown method (the message names the nearest), or an option that it does not have.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0)[0]
        raise UserError(
            f"expected --method to be one of {', '.join(METHODS)}, but got {name!r}; did you mean {near!r}?"
        )
    given = {key: value for key, value in asdict(options).items() if value is not None}
    defaults = METHODS[name].defaults
    if strange := sorted(given.keys() - defaults.keys()):
        raise UserError(f"method {name} has no --loss.{strange[0]}; its settings are {', '.join(defaults)}")
    return {**defaults, **given}


def make_method(name: str, options: LossOptions | None = None) -> Composition:
    """The method ``name``; see :func:`resolve_loss`. A value that makes no sense is a UserError too."""
    settings = resolve_loss(name, options or LossOptions())
    try:
        return METHODS[name].build(**settings)
    except ValueError as error:
        raise UserError(f"{error} (--loss, method {name})") from error
