"""Loss arithmetic leaves half precision behind, whatever autocast says."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Return ``logits`` in at least fp32; fp64 stays fp64, so that derivatives can be checked."""
    return logits if logits.dtype == torch.float64 else logits.float()


def frozen(logits: Tensor) -> Tensor:
    """Return ``logits`` cut from the graph and usable in a backward pass.

    Tensors made under ``torch.inference_mode`` cannot be saved for backward; they are copied once.
    """
    return logits.clone() if looks_at_values() and logits.is_inference() else logits.detach()


def looks_at_values() -> bool:
    """May Python look at the values of a tensor now? Not while torch.compile traces: a check would break the graph."""
    return not torch.compiler.is_compiling()


def no_autocast(like: Tensor) -> contextlib.AbstractContextManager[object]:
    """Switch autocast off on the device of ``like``."""
    if like.device.type not in ("cpu", "cuda"):
        return contextlib.nullcontext()  # not every version of torch knows autocast there
    return torch.autocast(device_type=like.device.type, enabled=False)
