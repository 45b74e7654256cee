"""Model architectures by name, and safe loading of their weights."""

from dlkd.models.checkpoint import CheckpointError, load_weights
from dlkd.models.cifar import CifarResNet, cifar_resnet
from dlkd.models.input_format import InputFormat
from dlkd.models.registry import build_model, default_input_format
from dlkd.models.trained import LoadedModel, load_initial, load_model, save_student, state_hash
from dlkd.models.zoo import CIFAR_MODELS, IMAGENET_MODELS

__all__ = [
    "CIFAR_MODELS",
    "IMAGENET_MODELS",
    "CheckpointError",
    "CifarResNet",
    "InputFormat",
    "LoadedModel",
    "build_model",
    "cifar_resnet",
    "default_input_format",
    "load_initial",
    "load_model",
    "load_weights",
    "save_student",
    "state_hash",
]
