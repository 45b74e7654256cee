"""Wrong labels: made by rule, by a matrix or by the image, or read from a file, with the truth kept beside them."""

from dlkd.data.noise.by_class import check_matrix, matrix_noise, pair_noise, superclass_noise, symmetric_noise
from dlkd.data.noise.instance import flip_distribution, instance_noise, pixel_features
from dlkd.data.noise.label_file import GivenLabels, read_labels
from dlkd.data.noise.label_noise import LabelNoise, NoiseKind, NoiseReport
from dlkd.data.noise.noisy import NoisyLabels
from dlkd.data.noise.superclass import superclasses
from dlkd.data.noise.tables import read_matrix

__all__ = [
    "GivenLabels",
    "LabelNoise",
    "NoiseKind",
    "NoiseReport",
    "NoisyLabels",
    "check_matrix",
    "flip_distribution",
    "instance_noise",
    "matrix_noise",
    "pair_noise",
    "pixel_features",
    "read_labels",
    "read_matrix",
    "superclass_noise",
    "superclasses",
    "symmetric_noise",
]
