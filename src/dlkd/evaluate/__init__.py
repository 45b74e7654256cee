"""Figures that describe a classifier."""

from dlkd.evaluate.figures import accuracy, expected_calibration_error, logits_of, reliability

__all__ = ["accuracy", "expected_calibration_error", "logits_of", "reliability"]
