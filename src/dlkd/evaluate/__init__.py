"""Figures that describe a classifier."""

from dlkd.evaluate.corruptions import accuracy_under, corrupted, corruption, parse_corruptions, parse_severities
from dlkd.evaluate.figures import (
    accuracy,
    agreement,
    balanced_accuracy,
    brier_score,
    by_level,
    expected_calibration_error,
    figures,
    kl_to_teacher,
    reliability,
)
from dlkd.evaluate.logits import check_finite, logits_of
from dlkd.evaluate.memorisation import Mislabelled, memorisation, mislabelled
from dlkd.evaluate.robustness import memorised, robustness
from dlkd.evaluate.selective import aurc, excess_aurc
from dlkd.evaluate.table import print_figures

__all__ = [
    "Mislabelled",
    "accuracy",
    "accuracy_under",
    "agreement",
    "aurc",
    "balanced_accuracy",
    "brier_score",
    "by_level",
    "check_finite",
    "corrupted",
    "corruption",
    "excess_aurc",
    "expected_calibration_error",
    "figures",
    "kl_to_teacher",
    "logits_of",
    "memorisation",
    "memorised",
    "mislabelled",
    "parse_corruptions",
    "parse_severities",
    "print_figures",
    "reliability",
    "robustness",
]
