"""Data sets, label noise, view keys, augmented and mixed views."""

from dlkd.data.augment import CropFlip, ImageTransform, centre_crop, resized_crop_flip
from dlkd.data.family import Batch, ViewFamily
from dlkd.data.loader import Steps, plain_batches
from dlkd.data.mixing import Mixing
from dlkd.data.noise import NoisyLabels, symmetric_noise
from dlkd.data.options import DataOptions, DataSet, ViewOptions, load_data, view_family
from dlkd.data.samples import ArrayPixels, FilePixels, Samples, stratified_split
from dlkd.data.view_key import Stream, epoch_order, view_key

__all__ = [
    "ArrayPixels",
    "Batch",
    "CropFlip",
    "DataOptions",
    "DataSet",
    "FilePixels",
    "ImageTransform",
    "Mixing",
    "NoisyLabels",
    "Samples",
    "Steps",
    "Stream",
    "ViewFamily",
    "ViewOptions",
    "centre_crop",
    "epoch_order",
    "load_data",
    "plain_batches",
    "resized_crop_flip",
    "stratified_split",
    "symmetric_noise",
    "view_family",
    "view_key",
]
