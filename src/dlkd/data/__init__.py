"""Data sets, label noise, view keys, augmented and mixed views."""

from dlkd.data.augment import ArrayAugment, CropFlip, ImageTransform, centre_crop, resized_crop_flip
from dlkd.data.colour import Colour
from dlkd.data.erase import Erase
from dlkd.data.family import Batch, ViewFamily
from dlkd.data.load import DataSet, load_data
from dlkd.data.loader import Steps, plain_batches
from dlkd.data.mixing import Mixing
from dlkd.data.noise import (
    LabelNoise,
    NoiseReport,
    NoisyLabels,
    instance_noise,
    matrix_noise,
    pair_noise,
    superclass_noise,
    symmetric_noise,
)
from dlkd.data.options import DataOptions
from dlkd.data.samples import ArrayPixels, FilePixels, Samples, stratified_split
from dlkd.data.sources import from_dataset
from dlkd.data.view_key import Stream, epoch_order, view_key
from dlkd.data.views import ViewOptions, strong_family, view_family

__all__ = [
    "ArrayAugment",
    "ArrayPixels",
    "Batch",
    "Colour",
    "CropFlip",
    "DataOptions",
    "DataSet",
    "Erase",
    "FilePixels",
    "ImageTransform",
    "LabelNoise",
    "Mixing",
    "NoiseReport",
    "NoisyLabels",
    "Samples",
    "Steps",
    "Stream",
    "ViewFamily",
    "ViewOptions",
    "centre_crop",
    "epoch_order",
    "from_dataset",
    "instance_noise",
    "load_data",
    "matrix_noise",
    "pair_noise",
    "plain_batches",
    "resized_crop_flip",
    "stratified_split",
    "strong_family",
    "superclass_noise",
    "symmetric_noise",
    "view_family",
    "view_key",
]
