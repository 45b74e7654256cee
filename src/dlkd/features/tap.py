"""What inner layers return, by forward hooks: nothing of the model is changed, and nothing outlives the step."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import TracebackType

import torch
from torch import Tensor, nn


class FeatureTap:
    """Keeps what the layers at ``paths`` return while the tap is open.

    ::

        tap = FeatureTap(student, ["layer2", "layer3"])
        with tap:
            logits = student(images)
        middle, last = tap.take()

    A layer that is called several times, or a model that is, leaves its latest output. Of a tuple or a dict the first
    tensor counts. Maps with the channels last (``[B, H, W, C]``, known by H = W ≠ C) are turned to ``[B, C, H, W]``. A
    tensor that a later layer changes in place is seen as changed.

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
        layers = {path: find_layer(module, path) for path in self.paths}
        self._handles = [layer.register_forward_hook(partial(self._keep, path)) for path, layer in layers.items()]

    def __enter__(self) -> FeatureTap:
        self._kept.clear()
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

    def _keep(self, path: str, module: nn.Module, inputs: object, output: object) -> None:
        if self._open:
            self._kept[path] = channels_first(_first_tensor(path, output))


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


def channels_first(features: Tensor) -> Tensor:
    """Maps ``[B, H, W, C]``, known by H = W ≠ C, as ``[B, C, H, W]``."""
    if features.ndim == 4:
        _, a, b, c = features.shape
        if a == b != c:
            return features.permute(0, 3, 1, 2)
    return features


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
