"""Figures that describe a classifier."""

from dlkd.evaluate.figures import (
    accuracy,
    agreement,
    brier_score,
    by_level,
    expected_calibration_error,
    figures,
    reliability,
)
from dlkd.evaluate.logits import logits_of

__all__ = [
    "accuracy",
    "agreement",
    "brier_score",
    "by_level",
    "expected_calibration_error",
    "figures",
    "logits_of",
    "reliability",
]
