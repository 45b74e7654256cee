"""What a method says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from dlkd.methods.composition import Scale

Settings = dict[str, Any]
Build = Callable[[Settings], Any]


@dataclass(frozen=True)
class Method:
    """One method: its formula, where it is from, its defaults, and the choices in which it departs from KD."""

    formula: str
    reference: str
    defaults: Settings = field(default_factory=dict)
    """Names are those of :class:`LossOptions`."""
    latex: str = ""
    """The formula for the page of methods."""
    differs: str = ""
    """What we do differently from paper or code, and why."""
    code: Settings = field(default_factory=dict)
    """Settings of the published code where it departs from the paper: ``variant: code``."""
    temperature: Build | None = None
    divergence: Build | None = None
    weight: Build | None = None
    transform: Build | None = None
    label: Build | None = None
    """Its own label term; None is the cross-entropy."""
    feature: Build | None = None
    """A term of inner layers, beside that of the logits; without one of those where the method is named alone."""
    scale: Scale | None = None
    """Fixed by the method; None leaves it to the setting ``scale``, or T²."""
    instead_of_kl: Build | None = None
    """What is taken where none of a composition has a divergence of its own; None is KL."""
    temperatures: Literal["each", "one", "none"] = "each"
    """How many its divergence takes: one for each sample, one for all, or none."""
    two_views: bool = False
    """Does it show a weak and a strong view of every image?"""
    uses_labels: bool = False
    """Does its distillation term look at the labels?"""
    uses_probe: bool = False
    """Does it look at the probe's logits?"""
    takes_top_k: bool = False
    """Does it make do with the largest logits of the teacher, the rest sharing what is left of the probability?"""
    per_sample: bool = False
    """Does the term of a sample depend on this sample alone? If not, processes that train together show each other what
    theirs are."""
    teacher: bool = True
    """Does it need one?"""
