"""The named methods with their published defaults, and how they combine.

A method lists only in what it departs from KD: ``dkd`` has another divergence, ``lskd`` transforms the logits first,
``dlkd`` has another temperature. So ``dlkd+dkd+lskd`` is the three together, and two names that depart in the same
choice do not go together.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from dlkd.difficulty.level import DifficultyLevel, LevelMode
from dlkd.difficulty.temperature import DifficultyTemperature
from dlkd.errors import UserError
from dlkd.losses.cross_entropy import cross_entropy
from dlkd.methods import pieces
from dlkd.methods.composition import Composition, Scale
from dlkd.methods.temperatures import (
    CooperativeTemperature,
    FixedTemperature,
    LearnedTemperature,
    StdTemperature,
    TargetTemperature,
    TeacherTemperature,
    TemperatureByDifficulty,
    positive,
)

Settings = dict[str, Any]
Build = Callable[[Settings], Any]
ALIASES = {"zscore": "lskd"}
SLOTS = ("temperature", "divergence", "weight", "transform")
"""The choices, in the order in which their defaults win: DKD's weights of the two terms win over those of DLKD."""


@dataclass(frozen=True)
class LossOptions:
    """Settings of the method; what is not given is the method's default (``dlkd methods`` lists them).

    Attributes:
        temperature: of kd, dkd, nkd, dist, wsld, ea, dtkd, rld, lskd.
        t_easy: temperature of the easiest samples, of dlkd.
        t_hard: temperature of the hardest samples, of dlkd; below t_easy for the opposite direction.
        gamma: bends the way from easy to hard, of dlkd.
        level: how a distance becomes a level in [0, 1], of dlkd.
        scale: what undoes the temperature's effect on the gradient, of dlkd.
        distance_temperature: softmax temperature of the distance between teacher and probe, of dlkd.
        ce_weight: of the given labels.
        kd_weight: of the teacher.
        warmup_epochs: over which the weight of the teacher rises, of dkd, rld and dtkd.
        alpha: weight of the first part, of dkd, rld and dtkd.
        beta: weight of the second part, of dkd, rld and dtkd.
        nkd_gamma: weight of the other classes, of nkd.
        dist_beta: weight of the correlation along classes, of dist.
        dist_gamma: weight of the correlation along the batch, of dist.
        exponent: 1/T of the teacher alone, of ttm and wttm.
        factor: temperature as a multiple of the standard deviation, of normkd.
        centred: measure the largest logit from the mean, of dtkd.
        target_temperature: of the label's logit of the teacher, of ats.
        other_temperature: of its other logits, of ats.
        student_temperature: of ats.
        ramp_epochs: over which the temperature learns to resist, of ctkd.
        confidence_temperature: of the first part, of rld.
        entropy_temperature: of the entropies, of ea.
        entropy_bound: what the student's entropy is divided by, of ea; by default the log of the classes.
        unbiased: standard deviations over C − 1 as in the official code, of lskd and normkd.
        smoothing: share of the label that goes to all classes, of ls.
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
    warmup_epochs: float | None = None
    alpha: float | None = None
    beta: float | None = None
    nkd_gamma: float | None = None
    dist_beta: float | None = None
    dist_gamma: float | None = None
    exponent: float | None = None
    factor: float | None = None
    centred: bool | None = None
    target_temperature: float | None = None
    other_temperature: float | None = None
    student_temperature: float | None = None
    ramp_epochs: float | None = None
    confidence_temperature: float | None = None
    entropy_temperature: float | None = None
    entropy_bound: float | None = None
    unbiased: bool | None = None
    smoothing: float | None = None


@dataclass(frozen=True)
class Method:
    """One method: its formula, where it is from, its defaults, and the choices in which it departs from KD."""

    formula: str
    reference: str
    defaults: Settings = field(default_factory=dict)
    """Names are those of :class:`LossOptions`."""
    temperature: Build | None = None
    divergence: Build | None = None
    weight: Build | None = None
    transform: Build | None = None
    label: Build | None = None
    """Of the methods without a teacher."""
    scale: Scale | None = None
    """Fixed by the method; None leaves it to the setting ``scale``, or T²."""
    one_temperature: bool = False
    """Does its divergence take one temperature for all samples only?"""

    @property
    def teacher(self) -> bool:
        """Does it need one?"""
        return self.label is None


def _difficulty(s: Settings) -> TemperatureByDifficulty:
    positive("distance_temperature", s["distance_temperature"])
    return TemperatureByDifficulty(
        DifficultyTemperature(s["t_easy"], s["t_hard"], s["gamma"]), DifficultyLevel(s["level"])
    )


_TWO_PARTS = {"ce_weight": 1.0, "kd_weight": 1.0, "warmup_epochs": 20.0}
METHODS: dict[str, Method] = {
    "ce": Method("CE(z_s, y)", "no teacher", {"ce_weight": 1.0}, label=lambda s: cross_entropy),
    "ls": Method(
        "CE(z_s, (1 − ε)·y + ε/C)",
        "label smoothing, no teacher; Szegedy et al., CVPR 2016",
        {"ce_weight": 1.0, "smoothing": 0.1},
        label=lambda s: pieces.smoothed_cross_entropy(s["smoothing"]),
    ),
    "kd": Method(
        "T²·KL(softmax(z_t/T) || softmax(z_s/T))",
        "Hinton et al. 2015; CIFAR-100 defaults of mdistiller",
        {"temperature": 4.0, "ce_weight": 0.1, "kd_weight": 0.9},
    ),
    "dkd": Method(
        "T²·(α·TCKD + β·NCKD)",
        "Zhao et al., CVPR 2022; defaults of mdistiller (β is tuned for each pair there)",
        {"temperature": 4.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        divergence=lambda s: pieces.dkd(s["alpha"], s["beta"]),
    ),
    "nkd": Method(
        "−p_t,y·log p_s,y + γ·T²·CE(n_t(T), n_s(T)) over the other classes",
        "Yang et al., ICCV 2023; defaults of cls_KD",
        {"temperature": 3.0, "nkd_gamma": 3.5, "ce_weight": 1.0, "kd_weight": 1.0},
        divergence=lambda s: pieces.nkd(s["nkd_gamma"]),
        scale="none",
    ),
    "dist": Method(
        "T²·[β·(1 − row correlation) + γ·(1 − column correlation)]",
        "Huang et al., NeurIPS 2022; CIFAR-100 defaults of the authors",
        {"temperature": 4.0, "dist_beta": 1.0, "dist_gamma": 1.0, "ce_weight": 1.0, "kd_weight": 2.0},
        divergence=lambda s: pieces.dist(s["dist_beta"], s["dist_gamma"]),
    ),
    "rld": Method(
        "α·T_c²·KL(confidence) + β·T²·KL(classes below the label)",
        "Sun et al., ICCV 2025; temperatures as in its config",
        {"temperature": 4.0, "confidence_temperature": 1.0, "alpha": 1.0, "beta": 8.0, **_TWO_PARTS},
        divergence=lambda s: pieces.rld(s["alpha"], s["beta"], s["temperature"], s["confidence_temperature"]),
        scale="none",
        one_temperature=True,
    ),
    "mse": Method(
        "1/C·Σ(z_s − z_t)²",
        "Ba and Caruana, NeurIPS 2014; weights are ours",
        {"ce_weight": 0.1, "kd_weight": 0.9},
        divergence=lambda s: pieces.mse,
        scale="none",
        one_temperature=True,
    ),
    "lskd": Method(
        "T²·KL of z-scores",
        "Sun et al., CVPR 2024; T and weight of its command line",
        {"temperature": 2.0, "kd_weight": 9.0, "unbiased": False},
        transform=lambda s: pieces.standardised(s["unbiased"]),
    ),
    "wsld": Method(
        "w·T²·CE(p_t(T), p_s(T)), w = 1 − exp(−CE_s/CE_t)",
        "Zhou et al., ICLR 2021; defaults of cls_KD",
        {"temperature": 4.0, "ce_weight": 1.0, "kd_weight": 2.25},
        weight=lambda s: pieces.wsld,
    ),
    "ea": Method(
        "w·T²·KL(T), w = H_t·(1 + H_s/H_max)/2",
        "Su et al. (EA-KD), ICCV 2025",
        {"temperature": 4.0, "entropy_temperature": 3.0, "entropy_bound": None, "ce_weight": 0.1, "kd_weight": 0.9},
        weight=lambda s: pieces.entropies(s["entropy_temperature"], s["entropy_bound"]),
    ),
    "ttm": Method(
        "KL(p_t^g/Σp_t^g || p_s)",
        "Zheng and Yang, ICLR 2024; exponent and weight for vgg13 → vgg8",
        {"exponent": 0.1, "ce_weight": 1.0, "kd_weight": 45.0},
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        scale="none",
    ),
    "wttm": Method(
        "U·KL(p_t^g/Σp_t^g || p_s), U = Σp_t^g",
        "Zheng and Yang, ICLR 2024; exponent and weight of its README",
        {"exponent": 0.2, "ce_weight": 1.0, "kd_weight": 4.0},
        temperature=lambda s: TeacherTemperature(s["exponent"]),
        weight=lambda s: pieces.wttm(s["exponent"]),
        scale="none",
    ),
    "normkd": Method(
        "T_t²·KL(T_t, T_s), T = factor·std of each row",
        "Chi et al. 2023",
        {"factor": 2.0, "unbiased": False, "ce_weight": 0.1, "kd_weight": 0.9},
        temperature=lambda s: StdTemperature(s["factor"], 1e-7, s["unbiased"]),
        scale="teacher",
    ),
    "dtkd": Method(
        "α·T_s·T_t·KL(T_t, T_s) + β·T²·KL(T), T_t and T_s share 2T by the largest logits",
        "Wei and Bai 2024; centring the maxima is our deviation",
        {"temperature": 4.0, "centred": True, **_TWO_PARTS, "alpha": 3.0, "beta": 1.0},
        temperature=lambda s: CooperativeTemperature(s["temperature"], s["centred"]),
        divergence=lambda s: pieces.dtkd(s["alpha"], s["beta"], s["temperature"]),
        scale="none",
    ),
    "ats": Method(
        "KL of the teacher at T_y on the label and T_o elsewhere to the student at its own T",
        "Li et al., NeurIPS 2022; temperatures of the MindSpore example, weights are ours",
        {
            "target_temperature": 4.0,
            "other_temperature": 2.0,
            "student_temperature": 1.0,
            "ce_weight": 0.5,
            "kd_weight": 0.5,
        },
        temperature=lambda s: TargetTemperature(
            s["target_temperature"], s["other_temperature"], s["student_temperature"]
        ),
        scale="none",
    ),
    "ctkd": Method(
        "T²·KL(T), T = 1 + 20·sigmoid(θ), learned against the student",
        "Li et al., AAAI 2023, one temperature for all samples",
        {"ramp_epochs": 10.0, "ce_weight": 0.1, "kd_weight": 0.9},
        temperature=lambda s: LearnedTemperature(s["ramp_epochs"]),
    ),
    "dlkd": Method(
        "s_i·KL(softmax(z_t/T_i) || softmax(z_s/T_i)), T_i = T_easy + (T_hard − T_easy)·ℓ_i^γ",
        "after Difficulty level-based knowledge distillation, Neurocomputing 2024; mapping and defaults are ours",
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
        temperature=_difficulty,
    ),
}


def parse_method(name: str) -> list[str]:
    """The methods of a composition such as ``dlkd+dkd+zscore``.

    Raises:
        UserError: an unknown name (the message has the nearest), or names that do not go together, and why.
    """
    names = [ALIASES.get(part, part) for part in name.split("+")]
    for part in names:
        if part not in METHODS:
            near = difflib.get_close_matches(part, METHODS, n=1, cutoff=0)[0]
            raise UserError(
                f"expected --method to be made of {', '.join(METHODS)}, but got {part!r}; did you mean {near!r}?"
            )
    if len(names) > 1:
        if len(set(names)) < len(names):
            raise UserError(f"expected --method {name} to name each method once")
        if alone := [n for n in names if not METHODS[n].teacher]:
            raise UserError(f"expected --method {alone[0]} alone: it has no teacher to combine anything with")
        for slot in SLOTS:
            if len(owners := [n for n in names if getattr(METHODS[n], slot)]) > 1:
                raise UserError(f"{' and '.join(owners)} do not go together: each has a {slot} of its own")
        owner = _owner(names, "temperature")
        if owner and (one := [n for n in names if METHODS[n].one_temperature]):
            raise UserError(f"{one[0]} and {owner} do not go together: {one[0]} takes no temperature of each sample")
    return names


def _owner(names: list[str], slot: str) -> str | None:
    return next((n for n in names if getattr(METHODS[n], slot)), None)


def resolve_loss(name: str, options: LossOptions) -> Settings:
    """Every setting of the method, its defaults filled in.

    Raises:
        UserError: see :func:`parse_method`; or an option that the method does not have.
    """
    names = parse_method(name)
    defaults = _defaults(names)
    given = {key: value for key, value in asdict(options).items() if value is not None}
    if strange := sorted(given.keys() - defaults.keys()):
        raise UserError(f"method {name} has no --loss.{strange[0]}; its settings are {', '.join(defaults)}")
    return {**defaults, **given}


def _defaults(names: list[str]) -> Settings:
    if not METHODS[names[0]].teacher:
        return METHODS[names[0]].defaults
    merged: Settings = dict(METHODS["kd"].defaults)
    owners = list(dict.fromkeys(owner for slot in SLOTS if (owner := _owner(names, slot))))
    for owner in owners:
        merged |= METHODS[owner].defaults
    temperature = _owner(names, "temperature")
    if (temperature is not None and "temperature" not in METHODS[temperature].defaults) or names == ["mse"]:
        merged.pop("temperature", None)  # nothing reads it
    if any(METHODS[n].scale is not None for n in owners):
        merged.pop("scale", None)
    return merged


def make_method(name: str, options: LossOptions | None = None) -> Composition:
    """The method or composition ``name``; see :func:`resolve_loss`. A value that makes no sense is a UserError too."""
    names, settings = parse_method(name), resolve_loss(name, options or LossOptions())
    try:
        return _compose(names, settings)
    except ValueError as error:
        raise UserError(f"{error} (--loss, method {name})") from error


def _compose(names: list[str], settings: Settings) -> Composition:
    first = METHODS[names[0]]
    if first.label is not None:
        return Composition(None, label=first.label(settings), label_weight=settings["ce_weight"], kd_weight=0.0)

    def built(slot: str) -> Any:
        owner = _owner(names, slot)
        return None if owner is None else getattr(METHODS[owner], slot)(settings)

    fixed: list[Scale] = [scale for n in names if (scale := METHODS[n].scale) is not None]
    if len(set(fixed)) > 1:
        raise ValueError(f"{' and '.join(names)} do not go together: each undoes the temperature in its own way")
    return Composition(
        built("temperature") or FixedTemperature(settings.get("temperature", 1.0)),
        divergence=built("divergence") or pieces.kl_or_cross_entropy(wsld="wsld" in names),
        transform=built("transform"),
        weight=built("weight"),
        scale=fixed[0] if fixed else settings.get("scale", "per_sample"),
        label_weight=settings["ce_weight"],
        kd_weight=settings["kd_weight"],
        warmup_epochs=settings.get("warmup_epochs", 0.0),
    )
