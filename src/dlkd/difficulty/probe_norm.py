"""What the normalisation layers of a probe use: the teacher's statistics, the batch's, or new ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

ProbeNorm = Literal["eval", "batch", "recalibrated"]
"""``eval``: the teacher's running statistics; ``batch``: those of each batch; ``recalibrated``: the probe's own."""


def use_batch_statistics(probe: nn.Module) -> int:
    """Make batch normalisation use the statistics of the batch: (x − mean_B(x)) / √(var_B(x) + ε).

    The layers stay in eval mode (so dropout stays off and nobody has to wake them) and no buffer moves:
    without running statistics PyTorch normalises by the batch in either mode. The running statistics are
    dropped from the module, so they cannot be brought back. A distance then depends on the company an
    image is in, and a batch needs more than one value for each channel.

    The published code of R2KD runs its pruned copy this way. It widens distances about tenfold for a
    lightly pruned copy (CIFAR-100 resnet56, 10 % of each layer: mean 0.03 → 0.23, median 0.004 → 0.055,
    ``results/probe_accuracy.json``), and nearly all of that is the statistics: a copy with nothing
    pruned is as far away.

    Args:
        probe: changed in place; batch normalisation of PyTorch and its subclasses, as timm's
            ``BatchNormAct2d``.

    Returns:
        How many layers were changed, 0 for a model without running statistics.
    """
    layers = _tracking_norms(probe)
    for layer in layers:
        layer.running_mean = None
        layer.running_var = None
    return len(layers)


@torch.no_grad()
def recalibrate_norms(probe: nn.Module, batches: Iterable[Tensor]) -> int:
    """Estimate the running statistics of ``probe`` anew: the plain average over the batches.

    With K batches, running mean = 1/K·Σ_k mean_k and running variance = 1/K·Σ_k var_k (unbiased inside
    each batch, as PyTorch does; the spread between batches is not in it). Every batch counts the same,
    whatever its size, so give batches of one size, and large ones. All layers normalise by the batch
    meanwhile, so that each sees the inputs it will see later.

    Args:
        probe: changed in place; in eval mode afterwards, with its momentum and no gradient.
        batches: images ``[B, 3, H, W]`` already in the probe's input format and on its device.

    Returns:
        How many layers were changed; 0 for a model without running statistics, which needs no batches.

    Raises:
        ValueError: no batch was given; the statistics are untouched then.
    """
    probe.eval()
    layers = _tracking_norms(probe)
    if not layers:
        return 0
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        raise ValueError("expected at least one batch to recalibrate normalisation on, but got none")
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # PyTorch's way to ask for a cumulative average
            # Not train(): that would wake what is inside a timm layer too, as its dropout.
            layer.training = True
        for batch in itertools.chain([first], remaining):
            probe(batch)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.training = False
    return len(layers)


def _tracking_norms(model: nn.Module) -> list[_BatchNorm]:
    return [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
