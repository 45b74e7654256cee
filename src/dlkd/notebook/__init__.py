"""Distil and look at the result from a notebook: names, files, modules and data sets in, a :class:`Run` out."""

from dlkd.notebook.api import distill, train_classifier
from dlkd.notebook.run import Run

__all__ = ["Run", "distill", "train_classifier"]
