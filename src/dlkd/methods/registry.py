"""From the name of a method, or of several together, to a composition.

A method lists only in what it departs from KD, so two names that depart in the same choice do not go together.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict
from typing import Any

from dlkd.errors import UserError
from dlkd.methods.composition import Composition, LabelTerm, Scale, kl, label_cross_entropy
from dlkd.methods.label_terms import LabelOptions, make_label_term
from dlkd.methods.options import LossOptions
from dlkd.methods.published import METHODS, Method, Settings
from dlkd.methods.temperatures import FixedTemperature
from dlkd.plugins import load_object

ALIASES = {"zscore": "lskd"}
SLOTS = ("temperature", "divergence", "weight", "transform", "label")
"""The choices, in the order in which their defaults win: DKD's weights of the two terms win over those of DLKD."""


def find_method(name: str) -> Method:
    """The method ``name``, or one of the user's own, ``package.module:NAME``.

    Raises:
        UserError: an unknown name; the message has the nearest.
    """
    if name in METHODS:
        return METHODS[name]
    if ":" in name:
        try:
            found = load_object(name, "method")
        except ValueError as error:
            raise UserError(str(error)) from error
        if not isinstance(found, Method):
            raise UserError(f"expected {name} to be a dlkd.methods.Method, but it is {type(found).__name__}")
        return found
    near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0)[0]
    raise UserError(f"expected --method to be made of {', '.join(METHODS)}, but got {name!r}; did you mean {near!r}?")


def parse_method(name: str) -> list[str]:
    """The methods of a composition such as ``dlkd+dkd+zscore``.

    Raises:
        UserError: see :func:`find_method`; or names that do not go together, and why.
    """
    names = [ALIASES.get(part, part) for part in name.split("+")]
    for part in names:
        find_method(part)
    if len(names) > 1:
        if len(set(names)) < len(names):
            raise UserError(f"expected --method {name} to name each method once")
        if alone := [n for n in names if not find_method(n).teacher]:
            raise UserError(f"expected --method {alone[0]} alone: it has no teacher to combine anything with")
        for slot in (*SLOTS, "feature"):
            if len(owners := [n for n in names if getattr(find_method(n), slot)]) > 1:
                raise UserError(f"{' and '.join(owners)} do not go together: each has a {slot} of its own")
        owner = _owner(names, "temperature")
        if owner and (one := [n for n in names if find_method(n).temperatures != "each"]):
            raise UserError(f"{one[0]} and {owner} do not go together: {one[0]} takes no temperature of each sample")
    return names


def _owner(names: list[str], slot: str) -> str | None:
    return next((n for n in names if getattr(find_method(n), slot)), None)


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
    code = {k: v for n in names for k, v in find_method(n).code.items()} if given.get("variant") == "code" else {}
    return {**defaults, **code, **given}


def _defaults(names: list[str]) -> Settings:
    if not find_method(names[0]).teacher:
        return find_method(names[0]).defaults
    feature, logit = _owner(names, "feature"), _of_logits(names)
    of_feature = {} if feature is None else find_method(feature).defaults
    if not logit:
        return of_feature
    merged: Settings = dict(METHODS["kd"].defaults)
    owners = list(dict.fromkeys(owner for slot in SLOTS if (owner := _owner(names, slot))))
    for owner in owners:
        merged |= find_method(owner).defaults
    temperature = _owner(names, "temperature")
    unread = any(find_method(n).temperatures == "none" for n in names)
    if unread or (temperature is not None and "temperature" not in find_method(temperature).defaults):
        merged.pop("temperature", None)
    if any(find_method(n).scale is not None for n in owners):
        merged.pop("scale", None)
    # The term of the logits says how much the labels count.
    return merged | {key: value for key, value in of_feature.items() if key not in ("ce_weight", "kd_weight")}


def _of_logits(names: list[str]) -> list[str]:
    """Those that compare logits: all but methods of inner layers alone."""
    methods = {name: find_method(name) for name in names}
    return [n for n, m in methods.items() if m.feature is None or any(getattr(m, slot) for slot in SLOTS)]


def make_method(
    name: str,
    options: LossOptions | None = None,
    classes: int | None = None,
    *,
    label: LabelOptions | None = None,
    samples: int | None = None,
) -> Composition:
    """The method or composition ``name``; see :func:`resolve_loss`. A value that makes no sense is a UserError too.

    Args:
        name: as for ``--method``.
        options: what departs from the defaults.
        classes: how many there are, for a temperature that is learned for each sample and for a label term with a
            memory.
        label: the label term, where it is not the method's own.
        samples: how many training images, for a label term with a memory.
    """
    names, settings = parse_method(name), resolve_loss(name, options or LossOptions())
    try:
        label, build = label or LabelOptions(), next((b for n in names if (b := find_method(n).label)), None)
        if label.term != "auto" and build is not None:
            raise ValueError(f"expected the label term auto, but got {label.term}: the method has one of its own")
        if label.term == "trust" and not find_method(names[0]).teacher:
            raise ValueError("expected a method with a teacher for the label term trust")
        own = label_cross_entropy if build is None else build(settings)
        term = make_label_term(label, own, samples=samples, classes=classes)
        method = _compose(names, {**settings, "classes": classes}, term)
    except ValueError as error:
        raise UserError(f"{error} (--loss, method {name})") from error
    # A mean over the batch looks at all of it, as does a permutation, and a memory has to take in what every process
    # sees.
    alone = method.scale != "mean" and label.term != "elr" and not settings.get("shuffled")
    method.per_sample = alone and all(find_method(n).per_sample for n in names)
    return method


def _compose(names: list[str], settings: Settings, label: LabelTerm) -> Composition:
    if not find_method(names[0]).teacher:
        return Composition(None, label=label, label_weight=settings["ce_weight"], kd_weight=0.0)

    def built(slot: str) -> Any:
        owner = _owner(names, slot)
        return None if owner is None else getattr(find_method(owner), slot)(settings)

    features, feature_weight = built("feature"), settings.get("feature_weight", 1.0)
    if not _of_logits(names):
        return Composition(
            None,
            label=label,
            label_weight=settings["ce_weight"],
            kd_weight=0.0,
            features=features,
            feature_weight=feature_weight,
        )
    fixed: list[Scale] = [scale for n in names if (scale := find_method(n).scale) is not None]
    if len(set(fixed)) > 1:
        raise ValueError(f"{' and '.join(names)} do not go together: each undoes the temperature in its own way")
    return Composition(
        built("temperature") or FixedTemperature(settings.get("temperature", 1.0)),
        divergence=built("divergence") or built("instead_of_kl") or kl,
        transform=built("transform"),
        weight=built("weight"),
        label=label,
        scale=fixed[0] if fixed else settings.get("scale", "per_sample"),
        label_weight=settings["ce_weight"],
        kd_weight=settings["kd_weight"],
        warmup_epochs=settings.get("warmup_epochs", 0.0),
        two_views=any(find_method(n).two_views for n in names),
        uses_probe=any(find_method(n).uses_probe for n in names),
        uses_labels=any(find_method(n).uses_labels for n in names),
        takes_top_k=all(find_method(n).takes_top_k for n in names),
        features=features,
        feature_weight=feature_weight,
    )
