"""Build a classifier by name: ours, timm's, torchvision's, transformers', or any factory that can be imported."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Literal, NamedTuple

from torch import nn

from dlkd.errors import first_line
from dlkd.models import hugging_face
from dlkd.models.input_format import InputFormat
from dlkd.models.zoo import CIFAR_MODELS, IMAGENET_MODELS, OWN_NAMES, TIMM_TOO
from dlkd.plugins import load_object

CIFAR_FORMATS = {
    10: InputFormat((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    100: InputFormat((0.5070, 0.4865, 0.4409), (0.2673, 0.2564, 0.2761)),
}
"""Number of classes → the statistics of CIFAR-10 and CIFAR-100, with which public weights were trained."""

IMAGENET_FORMAT = InputFormat((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224)


class ModelName(NamedTuple):
    """A name with its meaning settled."""

    source: Literal["cifar", "imagenet", "timm", "torchvision", "hf", "factory"]
    """``cifar`` and ``imagenet`` are ours: :data:`CIFAR_MODELS` and :data:`IMAGENET_MODELS`."""
    name: str
    """Without the prefix of the source."""


def resolve_name(name: str) -> ModelName:
    """Settle where a model comes from: ``NAME`` or ``cifar:NAME`` of ours, ``timm:NAME`` or ``NAME``,
    ``torchvision:NAME``, ``hf:NAME_OR_FOLDER`` of transformers, ``package.module:factory``. ``resnet18``,
    ``resnet50``, ``vgg11``, ``vgg13``, ``vgg16`` and ``vgg19`` are timm's networks for ImageNet; ours for CIFAR are
    ``cifar:resnet50`` and so on.

    Raises:
        ValueError: the name is unknown, or is timm's and timm is not installed.
    """
    if name in CIFAR_MODELS and name not in TIMM_TOO:
        return ModelName("cifar", name)
    if name in IMAGENET_MODELS:
        return ModelName("imagenet", name)
    prefix, colon, rest = name.partition(":")
    if colon and prefix == "cifar":
        if rest not in CIFAR_MODELS:
            raise _unknown(name, rest, [*CIFAR_MODELS], "cifar:")
        return ModelName("cifar", rest)
    if colon and prefix == "torchvision":
        known = torchvision_names()
        if rest not in known:
            raise _unknown(name, rest, known, "torchvision:")
        return ModelName("torchvision", rest)
    if colon and prefix == "hf":
        return ModelName("hf", rest)
    if colon and prefix != "timm":
        return ModelName("factory", name)
    timm = import_timm(name)
    wanted = rest if colon else name
    # Paths and hub addresses are no registered names: nothing is fetched by building a model.
    if not timm.is_model(wanted):
        raise _unknown(name, wanted, [*OWN_NAMES, *timm.list_models()])
    return ModelName("timm", wanted)


def build_model(name: str, num_classes: int, *, channels: int = 3) -> nn.Module:
    """Build a model with random weights: images ``[B, channels, H, W]`` → logits ``[B, num_classes]``.

    Args:
        name: see :func:`resolve_name`. A factory is called with ``num_classes=`` and, if its
            signature names one of them, ``channels=`` or ``in_chans=``.

    Raises:
        ValueError: in one line, why there is no such model.
    """
    if num_classes < 1 or channels < 1:
        raise ValueError(f"expected at least 1 class and 1 channel, but got {num_classes} and {channels}")
    source, short = resolve_name(name)
    if source == "cifar":
        return CIFAR_MODELS[short](num_classes, channels)
    if source == "imagenet":
        return IMAGENET_MODELS[short](num_classes, channels)
    if source == "factory":
        return _from_factory(short, num_classes, channels)
    if source == "torchvision":
        return get_torchvision(short, channels, num_classes=num_classes)
    if source == "hf":
        return hugging_face.build(short, num_classes, channels)
    options = {} if channels == 3 else {"in_chans": channels}
    try:
        model: nn.Module = import_timm(name).create_model(short, num_classes=num_classes, **options)
    except Exception as error:
        raise ValueError(f"timm could not build {short!r}: {first_line(error)}") from error
    return model


def default_input_format(name: str, num_classes: int, channels: int) -> InputFormat:
    """The input format that a model is usually trained with.

    timm's, torchvision's and transformers' models: mean, std and side of their published weights. Ours for CIFAR
    with 3 channels and 10 or 100 classes: CIFAR's statistics; ours for ImageNet: its statistics, side 224.
    A factory: its attribute ``input_format``, if it has one. Everything else: the image as it is.
    Where the channels are not those of the published statistics, each gets their average.

    Raises:
        ValueError: the name is unknown; see :func:`resolve_name`.
    """
    source, short = resolve_name(name)
    if source == "timm":
        return _with_channels(_timm_format(timm_pretrained_config(short)), channels)
    if source == "torchvision":
        return _with_channels(_torchvision_format(short), channels)
    if source == "hf":
        return _with_channels(hugging_face.input_format(short, IMAGENET_FORMAT), channels)
    if source == "imagenet":
        return _with_channels(IMAGENET_FORMAT, channels)
    if source == "factory":
        stated = getattr(_import_factory(short), "input_format", None)
        return stated if isinstance(stated, InputFormat) else InputFormat()
    if source == "cifar" and channels == 3:
        return CIFAR_FORMATS.get(num_classes, InputFormat())
    return InputFormat()


def import_timm(name: str) -> Any:
    """The module ``timm``, imported only when a name needs it; ValueError where it is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"expected a model out of {', '.join(OWN_NAMES)}, torchvision:NAME, hf:NAME or "
            f"package.module:factory, but got {name!r}; if it is a model of timm, install timm with "
            f"`pip install 'dlkd[timm]'` ({first_line(error)})"
        ) from error
    return timm


def timm_pretrained_config(short: str) -> Any:
    """timm's own description of the published weights of a model, or ``None``."""
    try:
        return import_timm(short).models.get_pretrained_cfg(short)
    except RuntimeError as error:
        raise ValueError(f"timm has no weights under {short!r}: {first_line(error)}") from error


def torchvision_names() -> list[str]:
    """torchvision's classifiers; its detectors and segmenters have other outputs than logits."""
    import torchvision  # Takes a second, which only those who name one of its models should wait.

    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


def get_torchvision(short: str, channels: int, **options: Any) -> nn.Module:
    """``torchvision.models.get_model``; ValueError where the channels are not 3."""
    from torchvision.models import get_model

    if channels != 3:
        raise ValueError(
            f"expected 3 channels for torchvision:{short}, but got {channels}; use a model of timm, "
            "which takes any number"
        )
    model: nn.Module = get_model(short, **options)
    return model


def _from_factory(name: str, num_classes: int, channels: int) -> nn.Module:
    factory = _import_factory(name)
    try:
        parameters = set(inspect.signature(factory).parameters)
    except (TypeError, ValueError):  # Some callables written in C have no signature.
        parameters = set()
    options = {"num_classes": num_classes}
    options |= {key: channels for key in ("channels", "in_chans") if key in parameters}
    try:
        model = factory(**options)
    except Exception as error:
        call = ", ".join(f"{key}={value}" for key, value in options.items())
        raise ValueError(f"{name}({call}) raised {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"expected {name} to return a torch.nn.Module, but got {type(model).__name__}")
    return model


def _import_factory(name: str) -> Any:
    factory = load_object(name, "model")
    if not callable(factory):
        module, _, attribute = name.partition(":")
        raise ValueError(
            f"expected {attribute!r} in {module!r} to be a function or class, but it is {type(factory).__name__}"
        )
    return factory


def _timm_format(config: Any) -> InputFormat:
    if config is None or not config.mean or not config.std:
        return IMAGENET_FORMAT
    _, height, width = config.input_size
    return InputFormat(tuple(config.mean), tuple(config.std), height if height == width else None)


def _torchvision_format(short: str) -> InputFormat:
    from torchvision.models import get_model_weights

    transforms: Any = get_model_weights(short).DEFAULT.transforms()
    try:
        return InputFormat(tuple(transforms.mean), tuple(transforms.std), int(transforms.crop_size[0]))
    except (AttributeError, TypeError, IndexError):
        return IMAGENET_FORMAT


def _with_channels(known: InputFormat, channels: int) -> InputFormat:
    if known.mean is None or known.std is None or len(known.mean) == channels:
        return known
    mean = sum(known.mean) / len(known.mean)
    std = sum(known.std) / len(known.std)
    return InputFormat((mean,) * channels, (std,) * channels, known.resolution)


def _unknown(name: str, wanted: str, known: list[str], prefix: str = "") -> ValueError:
    near = difflib.get_close_matches(wanted, known, n=1, cutoff=0)[0]
    return ValueError(f"expected a known model, but got {name!r}; did you mean {prefix + near!r}?")
