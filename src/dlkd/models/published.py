"""Weights that others have published under a name, or that a factory brings with it."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from dlkd.errors import first_line
from dlkd.models import hugging_face
from dlkd.models.checkpoint import CheckpointError
from dlkd.models.registry import build_model, get_torchvision, import_timm, resolve_name, timm_pretrained_config


class Published(NamedTuple):
    """A model with published weights."""

    module: nn.Module
    left_out: int | None
    """Classes of the head that was left out for a new one; None where none was."""
    class_names: tuple[str, ...] | None
    """Of its outputs, in order, where they are its own and somebody says them."""


def published(
    name: str,
    num_classes: int,
    channels: int,
    prefix: str,
    *,
    new_head: bool = False,
    own_classes: bool = False,
) -> Published:
    """Fetch the weights of a name of timm, torchvision or Hugging Face, or call a factory, which has its own.

    Args:
        name: see :func:`dlkd.models.build_model`.
        num_classes, channels: of the data.
        prefix: what stands before ``weights`` in messages, as ``--teacher.``.
        new_head: give a model for another number of classes a random head.
        own_classes: where somebody says the names of its classes, leave it as it is, however many they are.

    Raises:
        CheckpointError: nobody publishes weights, they are for other classes, or cannot be had.
    """
    source, short = resolve_name(name)
    if source in ("cifar", "imagenet"):
        raise CheckpointError(
            f"expected a name of timm, torchvision or Hugging Face for pretrained, but got {name!r}; give a file as "
            f"{prefix}weights"
        )
    if source == "factory":
        return Published(build_model(name, num_classes, channels=channels), None, None)
    classes, names = _classes(source, short)
    if classes is None:
        raise CheckpointError(f"{source} publishes no weights for {short!r}; give a file as {prefix}weights")
    # timm would silently make a random head for another number of classes.
    if classes != num_classes and not new_head and not (own_classes and names):
        raise CheckpointError(
            f"expected weights for {num_classes} classes, but those of {name} are for {classes}: "
            f"its head would be random; give weights of a model trained on these classes as {prefix}weights",
            classes=classes,
        )
    left_out = classes if new_head and classes != num_classes else None
    try:
        module = _fetched(source, short, channels, None if left_out is None else num_classes)
    except Exception as error:
        raise CheckpointError(
            f"could not get the published weights of {name}: {first_line(error)}; "
            f"connect to the network, or give a file as {prefix}weights"
        ) from error
    return Published(module, left_out, names if own_classes else None)


def _fetched(source: str, short: str, channels: int, num_classes: int | None) -> nn.Module:
    """The model with its own head, or with a random one for ``num_classes``."""
    if source == "hf":
        return hugging_face.load(short, num_classes)
    if source == "timm":
        options = {} if channels == 3 else {"in_chans": channels}
        options |= {} if num_classes is None else {"num_classes": num_classes}
        found: nn.Module = import_timm(short).create_model(short, pretrained=True, **options)
        return found
    module = get_torchvision(short, channels, weights="DEFAULT")
    if num_classes is not None:
        _replace_head(module, get_torchvision(short, channels, num_classes=num_classes))
    return module


def _replace_head(module: nn.Module, fresh: nn.Module) -> None:
    """Put the layers of ``fresh`` that are for other classes in place of those of ``module``."""
    own = module.state_dict()
    other = {
        key.rpartition(".")[0]
        for key, value in fresh.state_dict().items()
        if key in own and own[key].shape != value.shape
    }
    for path in other:
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, fresh.get_submodule(path))


def _classes(source: str, short: str) -> tuple[int | None, tuple[str, ...] | None]:
    """How many classes published weights are for, and what those are called; None for what nobody says."""
    if source == "timm":
        config = timm_pretrained_config(short)
        return (int(config.num_classes) if config is not None and config.has_weights else None), None
    if source == "hf":
        try:
            return hugging_face.describe(short)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    from torchvision.models import get_model_weights

    names: Any = get_model_weights(short).DEFAULT.meta["categories"]
    # Some of the thousand of ImageNet share a name, as the two cranes do: nothing can be chosen by these.
    return len(names), tuple(names) if len(set(names)) == len(names) else None
