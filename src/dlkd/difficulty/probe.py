"""The probe: a copy of the teacher with its smallest weights set to zero, never retrained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

Scope = Literal["global", "layer"]
PRUNED_LAYERS = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
IN_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
"""Of ``nn.MultiheadAttention``, which has the first one or the others; what it projects its output with is a layer."""


@torch.no_grad()
def prune_teacher(
    teacher: nn.Module,
    sparsity: float = 0.3,
    scope: Scope = "global",
    *,
    criterion: Literal["l1", "random"] = "l1",
    seed: int = 0,
) -> nn.Module:
    """Return a frozen copy of ``teacher`` in eval mode with a share of its weights set to zero.

    Unstructured magnitude (L1) pruning over the weights of convolution and linear layers, and those by
    which ``nn.MultiheadAttention`` projects its input; biases and normalisation are kept. Prune first;
    fold batch normalisation, change the memory format and compile afterwards: folded weights carry the
    normalisation's scale and rank differently.

    Args:
        teacher: any module; left untouched.
        sparsity: share of the weights to zero, in [0, 1); the number is rounded half to even.
        scope: ``global`` ranks all weights together, ``layer`` prunes the same share of every layer.
        criterion: ``l1`` zeroes the smallest magnitudes, ``random`` a seeded random choice.
        seed: of the random choice.

    Raises:
        ValueError: sparsity outside [0, 1), an unknown scope or criterion, nothing to prune, or weights that are
            computed anew in every forward, which would undo the pruning: parametrizations, as of weight norm.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"expected sparsity to be in [0, 1), but got {sparsity}")
    if scope not in ("global", "layer"):
        raise ValueError(f"expected scope to be 'global' or 'layer', but got {scope!r}")
    if criterion not in ("l1", "random"):
        raise ValueError(f"expected criterion to be 'l1' or 'random', but got {criterion!r}")
    _check_weights_stay(teacher)
    probe = copy.deepcopy(teacher).eval().requires_grad_(False)
    weights = prunable_weights(probe)
    if not weights:
        raise ValueError(
            f"expected {type(teacher).__name__} to have convolution or linear layers to prune, but found none"
        )
    generator = torch.Generator().manual_seed(seed)
    scores = [
        w.abs().reshape(-1) if criterion == "l1" else torch.rand(w.numel(), generator=generator).to(w.device)
        for w in weights
    ]
    if scope == "layer":
        masks = [_keep_mask(score, sparsity) for score in scores]
    else:
        kept = _keep_mask(torch.cat([score.float() for score in scores]), sparsity)
        masks = list(torch.split(kept, [score.numel() for score in scores]))
    for weight, mask in zip(weights, masks, strict=True):
        # where(), not a product: a zeroed weight must not be −0 or NaN.
        weight.copy_(torch.where(mask.reshape(weight.shape), weight, torch.zeros_like(weight)))
    return probe


def prunable_weights(model: nn.Module) -> list[Tensor]:
    """The weights that pruning looks at, in module order, tied weights once."""
    found = {id(weight): weight for _, _, weight in _weights_of(model)}
    return list(found.values())


def has_attention(model: nn.Module) -> bool:
    """Has it projections of ``nn.MultiheadAttention``? They were left alone once, so its probes are others now."""
    return any(isinstance(m, nn.MultiheadAttention) for m in model.modules())


def _weights_of(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """What is pruned: the layers, and the names and values of their weights."""
    for module in model.modules():
        if isinstance(module, PRUNED_LAYERS):
            yield module, "weight", module.weight
        elif isinstance(module, nn.MultiheadAttention):
            yield from ((module, name, x) for name in IN_PROJECTIONS if (x := getattr(module, name)) is not None)


def _check_weights_stay(model: nn.Module) -> None:
    for module, name, _ in _weights_of(model):
        # Both kinds of parametrization, and torch.nn.utils.prune, keep what they compute the weight from instead.
        if name not in module._parameters and name not in module._buffers:
            raise ValueError(
                f"expected weights that can be pruned, but {name} of a {type(module).__name__} is computed anew in "
                "every forward; remove the parametrization first, as by torch.nn.utils.parametrize."
                "remove_parametrizations"
            )


def _keep_mask(scores: Tensor, sparsity: float) -> Tensor:
    mask = torch.ones_like(scores, dtype=torch.bool)
    pruned = round(sparsity * scores.numel())
    mask[scores.topk(pruned, largest=False).indices] = False
    return mask
