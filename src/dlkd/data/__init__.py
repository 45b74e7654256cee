"""Data sets, label noise, view keys and augmented views."""

from dlkd.data.arrays import ImageArrays, digits, stratified_split
from dlkd.data.noise import NoisyLabels, symmetric_noise
from dlkd.data.view_key import view_key
from dlkd.data.views import CropFlip

__all__ = [
    "CropFlip",
    "ImageArrays",
    "NoisyLabels",
    "digits",
    "stratified_split",
    "symmetric_noise",
    "view_key",
]
