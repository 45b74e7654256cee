"""What inner layers return, by forward hooks: nothing of the model is changed, and nothing outlives the step."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Seen(NamedTuple):
    """What tells the channels of a map from its sides."""

    sides: tuple[int, int] | None = None
    """Of the images that the model sees."""
    channels_last: bool = False
    """Does it say so of its maps? timm's Swin and its like do, as ``output_fmt``."""

    @classmethod
    def of(cls, module: nn.Module, images: object) -> Seen:
        """A model that is shown ``images``."""
        height, width = images.shape[2:] if isinstance(images, Tensor) and images.ndim == 4 else (0, 0)
        last = getattr(module, "output_fmt", None) == "NHWC"
        return cls((int(height), int(width)) if height else None, last)


class FeatureTap:
    """Keeps what the layers at ``paths`` return while the tap is open.

    ::

        tap = FeatureTap(student, ["layer2", "layer3"])
        with tap:
            logits = student(images)
        middle, last = tap.take()

    A layer that is called several times, or a model that is, leaves its latest output. Of a tuple or a dict the first
    tensor counts. Maps with the channels last (``[B, H, W, C]``) are turned to ``[B, C, H, W]``: see
    :func:`channels_first`. A tensor that a later layer changes in place is seen as changed.

    Hooks are in no state dict; those of a copy of the model (``copy.deepcopy``) hear nothing. Tap after whatever
    replaces layers, such as :func:`dlkd.teacher.fold_batch_norms`, and before ``torch.compile``.

    Args:
        module: the model, in any mode.
        paths: names out of ``module.named_modules()``, as ``layer3``, ``blocks.5`` or, in an ``nn.Sequential``, ``4``.

    Raises:
        ValueError: there is no such layer; the message names the nearest.
    """

    def __init__(self, module: nn.Module, paths: Sequence[str]) -> None:
        self.paths = tuple(paths)
        self._open = False
        self._kept: dict[str, Tensor] = {}
        self._seen = Seen()
        layers = {path: find_layer(module, path) for path in self.paths}
        self._handles = [layer.register_forward_hook(partial(self._keep, path)) for path, layer in layers.items()]
        self._handles.append(module.register_forward_pre_hook(self._see, with_kwargs=True))

    def __enter__(self) -> FeatureTap:
        self._kept.clear()
        self._seen = Seen()
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        if error is not None:
            self._kept.clear()

    def __deepcopy__(self, memo: dict[int, object]) -> FeatureTap:
        # Reached by the hooks of a module that is copied: the copy must not hold features of this one.
        deaf = FeatureTap(nn.Identity(), ())
        deaf.paths = self.paths
        return deaf

    def take(self) -> list[Tensor]:
        """The features in the order of ``paths``; the tap keeps none of them.

        Raises:
            ValueError: a layer was not called since the tap was opened.
        """
        kept, self._kept = self._kept, {}
        if missing := [path for path in self.paths if path not in kept]:
            raise ValueError(
                f"expected the model to call its layer {missing[0]!r}, but it did not; choose a layer that takes part"
            )
        return [kept[path] for path in self.paths]

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self._kept.clear()

    def _see(self, module: nn.Module, inputs: tuple[object, ...], named: dict[str, object]) -> None:
        if self._open:
            self._seen = Seen.of(module, next(tensors_of([*inputs, named]), None))

    def _keep(self, path: str, layer: nn.Module, inputs: object, output: object) -> None:
        if not self._open:
            return
        found = _first_tensor(path, output)
        if (features := channels_first(found, self._seen, layer)) is None:
            raise ValueError(
                f"expected layer {path!r} to return a map whose channels can be told from its sides, but got "
                f"{list(found.shape)} for images of {self._seen.sides}; choose the convolution or norm before it"
            )
        self._kept[path] = features


def find_layer(module: nn.Module, path: str) -> nn.Module:
    """The submodule at ``path``.

    Raises:
        ValueError: there is none; the message names the nearest and how to list all.
    """
    names = [name for name, _ in module.named_modules() if name]
    if path not in names:
        near = difflib.get_close_matches(path, names, n=3, cutoff=0)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"expected a layer of {type(module).__name__}, but got {path!r}; {hint}"
            "[name for name, _ in model.named_modules()] lists them"
        )
    return module.get_submodule(path)


def tensors_of(output: object) -> Iterator[Tensor]:
    """The floating-point tensors in whatever a layer returns, in order."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from tensors_of(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from tensors_of(value)


def _first_tensor(path: str, output: object) -> Tensor:
    found = next(tensors_of(output), None)
    if found is None or not 2 <= found.ndim <= 4:
        what = type(output).__name__ if found is None else list(found.shape)
        raise ValueError(
            f"expected layer {path!r} to return [B, D], [B, N, D] or [B, C, H, W], but got {what}; choose another layer"
        )
    return found


def channels_first(features: Tensor, seen: Seen, layer: nn.Module) -> Tensor | None:
    """Maps ``[B, H, W, C]`` as ``[B, C, H, W]``; None where nothing tells which of the two a map is.

    They are known by H = W ≠ C. Where the images are not square: by the two sides that are in proportion to those of
    the images; where both pairs are, by the width of the layer, or else by what the model says of its maps.
    """
    if features.ndim != 4:
        return features
    last = _is_last(features.shape, seen, layer)
    return None if last is None else features.permute(0, 3, 1, 2) if last else features


def _is_last(shape: Sequence[int], model: Seen, layer: nn.Module) -> bool | None:
    """Is a map ``[B, a, b, c]`` one of c channels? None where nothing tells."""
    _, a, b, c = shape
    if model.sides is None or model.sides[0] == model.sides[1]:
        return a == b != c
    said: bool | None = True if model.channels_last else None
    if a != c and (width := _width(layer)) in (a, c):
        said = width == c
    first, last = _stretch((b, c), model.sides), _stretch((a, b), model.sides)
    if 2 * first < last:
        return False
    if b == c:  # of whatever image: pooled, or attention
        return said is True
    return True if 2 * last < first else said


def _stretch(sides: tuple[int, int], of: tuple[int, int]) -> float:
    """By how much an image is stretched to have these sides: ``|ln (h/w · W/H)|``, near 0 after one stride for both."""
    return abs(math.log((sides[0] * of[1]) / (sides[1] * of[0])))


def _width(layer: nn.Module) -> int | None:
    """Channels of what a layer returns: those of the last within it that says them."""
    found: int | None = None
    for module in layer.modules():
        if next(module.children(), None) is None:
            shape = getattr(module, "normalized_shape", None)
            names = ("out_channels", "out_features", "num_features", "num_channels")
            own = shape[-1] if shape else next((getattr(module, n) for n in names if hasattr(module, n)), None)
            found = own if isinstance(own, int) else found
    return found


def feature_shapes(module: nn.Module, paths: Sequence[str], example: Tensor) -> list[tuple[int, ...]]:
    """Shapes without the batch of what the layers at ``paths`` return; the model is left as it was.

    Args:
        example: a batch in the model's input format, on its device.
    """
    tap = FeatureTap(module, paths)
    try:
        with tap:
            look(module, example)
        return [tuple(features.shape[1:]) for features in tap.take()]
    finally:
        tap.remove()


def look(module: nn.Module, example: Tensor) -> object:
    """What the model returns in eval mode; its modes and statistics and the random numbers are left as they were."""
    training = [m for m in module.modules() if m.training]
    devices = [example.device] if example.device.type == "cuda" else []
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            return module(example)
    finally:
        for m in training:
            m.training = True
