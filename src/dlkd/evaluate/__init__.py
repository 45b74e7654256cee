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
from dlkd.evaluate.logits import check_finite, logits_of

__all__ = [
    "accuracy",
    "agreement",
    "brier_score",
    "by_level",
    "check_finite",
    "expected_calibration_error",
    "figures",
    "logits_of",
    "reliability",
]
