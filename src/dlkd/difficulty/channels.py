"""A probe that is really smaller: whole channels taken out of a copy of the teacher."""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from dlkd.difficulty.probe import PRUNED_LAYERS, Scope
from dlkd.errors import first_line


def prune_channels(teacher: nn.Module, sparsity: float, scope: Scope, example: Tensor) -> nn.Module:
    """Return a frozen copy of ``teacher`` in eval mode without the share ``sparsity`` of its channels.

    Channels of layers that depend on each other, as by a shortcut, go together, those of the smallest mean magnitude
    (L1) first; outputs of the model stay. Unlike the zeros of :func:`dlkd.prune_teacher`, which cost as much as other
    weights, they make the probe cheaper: of a convolution roughly (1 − s)² is left. Without retraining they also cost
    far more of its accuracy.

    Args:
        teacher: any module that torch-pruning can trace; left untouched.
        sparsity: share of the channels, in [0, 1).
        scope: ``global`` ranks the channels of all layers together, ``layer`` takes the share from every layer.
        example: images ``[B, channels, H, W]`` in the model's input format.

    Raises:
        ValueError: torch-pruning is not installed or cannot prune this model, or the sparsity is outside [0, 1).

    Source: Fang et al., "DepGraph: towards any structural pruning", CVPR 2023 (torch-pruning).
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"expected sparsity to be in [0, 1), but got {sparsity}")
    try:
        import torch_pruning
    except ImportError as error:
        raise ValueError(
            f"expected torch-pruning for the criterion channels; pip install 'dlkd[pruning]' ({first_line(error)})"
        ) from error
    probe = copy.deepcopy(teacher).eval()
    # It follows the graph of autograd.
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        probe.requires_grad_(True)
        try:
            torch_pruning.pruner.MagnitudePruner(
                probe,
                example.clone(),
                importance=torch_pruning.importance.MagnitudeImportance(p=1),
                pruning_ratio=sparsity,
                global_pruning=scope == "global",
                ignored_layers=_last_layers(probe, example),
            ).step()
            with torch.no_grad():
                shape = probe(example).shape
        # Whatever tracing somebody's model leads to.
        except Exception as error:
            raise ValueError(f"could not take channels out of {type(teacher).__name__}: {first_line(error)}") from error
    with torch.no_grad():
        wanted = teacher(example).shape
    if shape != wanted:
        raise ValueError(f"could not take channels out of {type(teacher).__name__}: its output became {list(shape)}")
    return probe.requires_grad_(False)


@torch.no_grad()
def _last_layers(model: nn.Module, example: Tensor) -> list[nn.Module]:
    """The layer that makes the logits: the last one with weights to be called."""
    called: list[nn.Module] = []
    layers = [module for module in model.modules() if isinstance(module, PRUNED_LAYERS)]
    hooks = [layer.register_forward_hook(lambda module, *_: called.append(module)) for layer in layers]
    try:
        model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1:]
