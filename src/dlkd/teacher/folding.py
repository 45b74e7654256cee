"""Fold batch normalisation into the convolution before it: the same function, fewer passes over memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_weights

from dlkd.features.tap import tensors_of

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
TOLERANCE = 1e-3
"""Allowed change of any output, relative to 1 + the largest output."""


class Folding(NamedTuple):
    """What :func:`fold_batch_norms` did."""

    folded: int
    """Batch norms that are gone."""
    total: int
    """Batch norms there were."""
    note: str
    """The same as a sentence, with the reason where nothing was folded."""


class _Pair(NamedTuple):
    conv: Conv
    norm: _BatchNorm


def fold_batch_norms(model: nn.Module, example: Tensor, heard: Collection[nn.Module] = ()) -> Folding:
    """Fold each batch norm into the convolution whose output it alone takes, in place.

    y = γ·(w∗x + b − μ)/√(σ² + ε) + β becomes w'∗x + b' with w' = w·γ/√(σ² + ε) and
    b' = (b − μ)·γ/√(σ² + ε) + β, for each output channel.

    The model is run once on ``example``: a batch norm is paired with a convolution when its input *is*
    the tensor that the convolution returned, untouched, both were called once, and no other layer took
    that tensor. The norm becomes ``nn.Identity``, or for timm's ``BatchNormAct2d`` its dropout and
    activation; names in the state dict change. A function that uses the tensor cannot be seen, so the
    model is run again, and where an output moved by more than 1e-3·(1 + max |output|) everything is put
    back. Left alone: convolutions with shared or parametrised weights, norms without running statistics, and pairs
    of which a layer that somebody listens to has the convolution alone: it would return something else.

    The order is prune → fold → channels-last → compile: pruning ranks weights, and folded weights
    carry the scale of the normalisation.

    Args:
        model: in eval mode; any module, whatever its forward does.
        example: one batch in the model's input format, on its device. The check sees the model on it
            only, so give images, real or random, not zeros.
        heard: layers of the model whose outputs must stay what they are.

    Returns:
        Counts and a sentence, as "folded 57 of 57 batch norms".

    Raises:
        ValueError: some part of the model is in training mode.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(f"expected {type(model).__name__} to be in eval mode for folding, but got training mode")
    total = sum(isinstance(module, _BatchNorm) for module in model.modules())
    if total == 0:
        return Folding(0, 0, "no batch norms")
    # Not inference mode, even if the caller is in it: its tensors count no changes in place.
    with torch.inference_mode(False), torch.no_grad():
        pairs, before = _find_pairs(model, example)
        pairs = [pair for pair in pairs if not any(_splits(layer, pair) for layer in heard)]
        if not pairs:
            return Folding(0, total, f"left unfolded: none of {total} batch norms can join a convolution before it")
        problem = _fold_and_check(model, example, pairs, before)
    if problem is not None:
        return Folding(0, total, f"left unfolded: {problem}")
    return Folding(len(pairs), total, f"folded {len(pairs)} of {total} batch norms")


def _splits(layer: nn.Module, pair: _Pair) -> bool:
    """Has a layer the convolution without the norm?"""
    inside = set(layer.modules())
    return pair.conv in inside and pair.norm not in inside


def _fold_and_check(model: nn.Module, example: Tensor, pairs: list[_Pair], before: list[Tensor]) -> str | None:
    """Fold all pairs; where the outputs moved put everything back and say what is wrong."""
    undo = _Undo(model, pairs)
    problem: str | None = "interrupted"
    try:
        for pair in pairs:
            _fold(model, pair)
        problem = _difference(before, _run(model, example))
    except Exception as error:  # whatever a forward raises when it misses an attribute of its norm
        problem = f"the folded model fails with {type(error).__name__}: {error}"
    finally:
        if problem is not None:
            undo()
    return problem


class _Recorder:
    """Hooks that note which layer returned and which layers took each tensor, for one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: Counter[nn.Module] = Counter()
        self.takers: Counter[int] = Counter()
        # The tensors themselves are kept: a freed one would pass its id on to a stranger.
        self.returned: dict[int, tuple[Conv, Tensor, int]] = {}
        self.pairs: list[_Pair] = []
        self._handles = []
        for module in model.modules():
            # A container or an identity only hands a tensor on, but timm's norms contain an activation.
            leaf = next(module.children(), None) is None and not isinstance(module, nn.Identity)
            if leaf or isinstance(module, _BatchNorm):
                self._handles.append(module.register_forward_pre_hook(self._before))
            if isinstance(module, Conv):
                self._handles.append(module.register_forward_hook(self._after))

    def _before(self, module: nn.Module, inputs: tuple[object, ...]) -> None:
        self.calls[module] += 1
        for x in inputs:
            if id(x) not in self.returned:
                continue
            conv, tensor, version = self.returned[id(x)]
            self.takers[id(x)] += 1
            # A version that moved on means an operation in place, as relu_, between the two.
            if isinstance(module, _BatchNorm) and version == tensor._version:
                self.pairs.append(_Pair(conv, module))

    def _after(self, module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and isinstance(module, Conv):
            self.returned[id(output)] = (module, output, output._version)

    def alone(self, pair: _Pair) -> bool:
        """Were both called once, and did nobody else take the tensor between them?"""
        between = [key for key, (conv, _, _) in self.returned.items() if conv is pair.conv]
        return self.calls[pair.conv] == self.calls[pair.norm] == 1 and all(self.takers[key] == 1 for key in between)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _find_pairs(model: nn.Module, example: Tensor) -> tuple[list[_Pair], list[Tensor]]:
    """Foldable pairs, and the outputs of the model on the example."""
    recorder = _Recorder(model)
    try:
        outputs = _run(model, example)
    finally:
        recorder.remove()
    owners = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)

    def foldable(pair: _Pair) -> bool:
        own = dict(pair.conv.named_parameters(recurse=False))
        plain = "weight" in own and not any(True for _ in pair.conv.children())  # no parametrisation
        untied = all(owners[id(p)] == 1 for p in own.values())
        return plain and untied and pair.norm.running_mean is not None and recorder.alone(pair)

    return [pair for pair in recorder.pairs if foldable(pair)], outputs


def _fold(model: nn.Module, pair: _Pair) -> None:
    conv, norm = pair
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("expected a batch norm with running statistics to fold, but got one without")
    # New parameters, not new values in the old ones: other models may share those.
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    rest = [part for name in ("drop", "act") if isinstance(part := getattr(norm, name, None), nn.Module)]
    # A fresh module starts in training mode, which would wake a frozen teacher.
    replacement = (nn.Sequential(*rest) if rest else nn.Identity()).eval()
    for parent, name in _places(model, norm):
        setattr(parent, name, replacement)


def _places(model: nn.Module, wanted: nn.Module) -> list[tuple[nn.Module, str]]:
    """Every (parent, attribute) that holds the module: a shared one has several."""
    return [(parent, name) for parent in model.modules() for name, m in parent._modules.items() if m is wanted]


class _Undo:
    """Puts the original modules and parameters back."""

    def __init__(self, model: nn.Module, pairs: list[_Pair]) -> None:
        self._parameters = [(pair.conv, pair.conv.weight, pair.conv.bias) for pair in pairs]
        self._modules = [(parent, name, pair.norm) for pair in pairs for parent, name in _places(model, pair.norm)]

    def __call__(self) -> None:
        for conv, weight, bias in self._parameters:
            conv.weight, conv.bias = weight, bias
        for parent, name, norm in self._modules:
            setattr(parent, name, norm)


def _run(model: nn.Module, example: Tensor) -> list[Tensor]:
    """Outputs of the model; copies on both sides, as a forward may write into its input or keep its output."""
    return [t.clone() for t in _tensors(model(example.clone()))]


def _difference(before: list[Tensor], after: list[Tensor]) -> str | None:
    """What is wrong with the outputs of the folded model, if anything."""
    if not before or [t.shape for t in before] != [t.shape for t in after]:
        return "its outputs cannot be compared before and after"
    for a, b in zip(before, after, strict=True):
        moved, allowed = (a - b).abs().max().item(), TOLERANCE * (1 + a.abs().max().item())
        # Not "moved > allowed": NaN must count as a failure.
        if not moved <= allowed:
            return f"an output moved by {moved:.2g} (allowed: {allowed:.2g}); is a convolution's output used twice?"
    return None


def _tensors(output: object) -> Iterator[Tensor]:
    """The floating-point tensors in whatever a model returns, but for empty ones."""
    return (tensor for tensor in tensors_of(output) if tensor.numel())
