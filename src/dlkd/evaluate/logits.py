"""A model's logits on images without augmentation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from dlkd.data import Samples, plain_batches
from dlkd.data.samples import Indices
from dlkd.errors import UserError


def check_finite(logits: Tensor, ids: Indices, who: str) -> None:
    """Refuse logits ``[N, C]`` that are not finite, naming the samples.

    Raises:
        UserError: some are not.
    """
    rows = (~logits.isfinite().all(dim=1)).nonzero().flatten()
    if len(rows):
        raise UserError(
            f"the {who}'s logits are not finite for {len(rows)} images, first for sample ids "
            f"{ids[rows[:5].numpy()].tolist()}; use other weights, or train with a lower --optim.lr"
        )


@contextlib.contextmanager
def asleep(model: nn.Module) -> Iterator[torch.device]:
    """Eval mode without gradients for the block, which is given the model's device; every module's mode is put back."""
    awake = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield next(model.parameters()).device
    finally:
        # One by one: parts may have been frozen in eval mode within a model that trains.
        for module in awake:
            module.training = True


def logits_of(
    model: nn.Module, samples: Samples, input_format: Callable[[Tensor], Tensor], size: int | None = None
) -> tuple[Tensor, Tensor]:
    """Logits ``[N, C]`` in eval mode and the labels ``[N]``, both on the CPU; every module's mode is put back.

    Args:
        model: images → logits, on any device.
        samples: what it is asked about.
        input_format: from images in [0, 1] to what the model wants to see.
        size: side in pixels of images that come from files.
    """
    logits, labels = [], []
    with asleep(model) as device:
        for images, given in plain_batches(samples, size=size):
            logits.append(model(input_format(images.to(device))).float().cpu())
            labels.append(given)
    return torch.cat(logits), torch.cat(labels)
