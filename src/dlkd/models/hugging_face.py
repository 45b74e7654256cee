"""Image classifiers of Hugging Face's transformers, of the hub or from a folder: ``hf:microsoft/resnet-18``."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlkd.errors import first_line
from dlkd.models.input_format import InputFormat


class Logits(nn.Module):
    """A model of transformers that answers as all others here: images ``[B, C, H, W]`` → logits ``[B, classes]``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, classes]``."""
        logits: Tensor = self.model(pixel_values=images, return_dict=True).logits
        return logits


class Published(NamedTuple):
    """What a folder or the hub says of a model."""

    classes: int
    class_names: tuple[str, ...] | None
    """None where the classes have numbers alone."""


def describe(name: str) -> Published:
    """The classes of a model; reads or fetches its ``config.json``.

    Raises:
        ValueError: in one line, why it is not there.
    """
    config = _config(name)
    labels, classes = config.id2label, config.num_labels
    # Numbers from 1, or with a gap, do not say which logit is whose.
    named = labels.keys() == set(range(classes)) and any(name != f"LABEL_{k}" for k, name in labels.items())
    return Published(classes, tuple(str(labels[k]) for k in range(classes)) if named else None)


def build(name: str, num_classes: int, channels: int) -> nn.Module:
    """Its network with random weights.

    Raises:
        ValueError: it is not there, or is no classifier of images.
    """
    config = _config(name)
    config.num_labels = num_classes
    if hasattr(config, "num_channels"):
        config.num_channels = channels
    elif channels != 3:
        raise ValueError(f"expected 3 channels for hf:{name}, but got {channels}")
    try:
        return Logits(_transformers(name).AutoModelForImageClassification.from_config(config))
    except Exception as error:
        raise ValueError(f"transformers could not build hf:{name}: {first_line(error)}") from error


def load(name: str, num_classes: int | None = None) -> nn.Module:
    """With its trained weights, out of safetensors and nothing else; no code of the hub is run.

    Args:
        name: of the hub, or a folder.
        num_classes: of a new, random classifier; by default its own.

    Raises:
        ValueError: it is not there, or is no classifier of images.
    """
    options: dict[str, Any] = (
        {} if num_classes is None else {"num_labels": num_classes, "ignore_mismatched_sizes": True}
    )
    try:
        model = _transformers(name).AutoModelForImageClassification.from_pretrained(
            name, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, **options
        )
    except Exception as error:
        raise ValueError(f"could not get the weights of hf:{name}: {first_line(error)}") from error
    return Logits(model)


def input_format(name: str, default: InputFormat) -> InputFormat:
    """What its image processor does with an image; ``default`` where it has none."""
    try:
        of = _transformers(name).AutoImageProcessor.from_pretrained(name, trust_remote_code=False).to_dict()
        size = of.get("crop_size") if of.get("do_center_crop") else of.get("size")
        side = size.get("height", size.get("shortest_edge")) if isinstance(size, dict) else size
        mean, std = (of["image_mean"], of["image_std"]) if of.get("do_normalize", True) else (None, None)
        return InputFormat(mean, std, side if isinstance(side, int) else default.resolution)
    except (OSError, ValueError, TypeError, KeyError):
        return default


def _config(name: str) -> Any:
    try:
        return _transformers(name).AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise ValueError(
            f"expected hf:{name} to be a folder with config.json or a model of the Hugging Face hub, but got it from "
            f"neither: {first_line(error)}"
        ) from error


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(f"expected transformers for hf:{name}; pip install 'dlkd[transformers]'") from error
    transformers.logging.set_verbosity_error()
    return transformers
