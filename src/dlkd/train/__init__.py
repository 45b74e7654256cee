"""One training loop for every method."""

from dlkd.train.loop import Schedule, TrainBatch, fit

__all__ = ["Schedule", "TrainBatch", "fit"]
