"""How sure a difference is, in words and figures for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlkd.evaluate.statistics import Verdict

VERDICTS: dict[Verdict, str] = {
    "ahead": "ahead by more than the interval",
    "behind": "behind by more than the interval",
    "no difference": "no difference: the interval has 0 in it",
    "one seed": "one seed, which can show no difference",
}
"""Of the interval alone; see :func:`dlkd.evaluate.statistics.paired`."""


def mean_and_sd(of: Mapping[str, Any] | None, *, digits: int = 2) -> str:
    """``mean ± sd``; the mean alone where one seed has no spread, nothing where there is no figure."""
    if of is None:
        return ""
    mean = f"{of['mean']:.{digits}f}".replace("-", "−")
    return mean if of["sd"] is None else f"{mean} ± {of['sd']:.{digits}f}"


def difference(of: Mapping[str, Any] | None) -> str:
    """``+0.80 [+0.31, +1.29]``."""
    if of is None:
        return ""
    numbers = [of["mean"]] if of["low"] is None else [of["mean"], of["low"], of["high"]]
    mean, *ends = (f"{number:+.2f}".replace("-", "−") for number in numbers)
    return f"{mean} [{ends[0]}, {ends[1]}]" if ends else mean
