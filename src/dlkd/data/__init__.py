"""Data sets, label noise, view keys and augmented views."""

from dlkd.data.noise import NoisyLabels, symmetric_noise
from dlkd.data.view_key import view_key

__all__ = ["NoisyLabels", "symmetric_noise", "view_key"]
