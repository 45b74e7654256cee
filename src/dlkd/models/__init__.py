"""Model architectures by name, and safe loading of their weights."""

from dlkd.models.checkpoint import CheckpointError, load_weights
from dlkd.models.cifar import CIFAR_MODELS, CifarResNet, cifar_resnet

__all__ = ["CIFAR_MODELS", "CheckpointError", "CifarResNet", "cifar_resnet", "load_weights"]
