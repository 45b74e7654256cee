"""Exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Moving average of everything in a model's ``state_dict``: parameters and buffers.

    At update t = 0, 1, … with d_t = min(decay, (1 + t) / (10 + t)): average ← d_t · average + (1 − d_t) · value,
    starting from the values at construction. The rising d_t lets the first, random weights fade soon. Integer
    tensors (the counters of batch norms) are copied. Half precision is averaged in float32, where
    (1 − d_t) is not rounded away.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the weights of ``model``, on its device.

        Raises:
            ValueError: ``decay`` is not in (0, 1).
        """
        if not 0 < decay < 1:
            raise ValueError(f"expected decay to be in (0, 1), but got {decay}; try 0.999")
        self.decay = decay
        self.updates = 0
        values = _values(model)
        self._dtypes = {name: value.dtype for name, value in values.items()}
        self._average = {name: value.to(_wide(value.dtype), copy=True) for name, value in values.items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of ``model`` after an optimizer step.

        Raises:
            ValueError: the model's tensors have other names or shapes than at construction.
        """
        values = _values(model)
        self._check(values, "the model")
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        floating = [name for name, average in self._average.items() if average.is_floating_point()]
        if floating:  # all at once: a kernel for each of hundreds of tensors would take longer to start than to run
            taken = [values[name].to(self._average[name]) for name in floating]
            torch._foreach_lerp_([self._average[name] for name in floating], taken, 1 - decay)
        for name in self._average.keys() - set(floating):
            self._average[name].copy_(values[name])
        self.updates += 1

    def weights(self) -> dict[str, Tensor]:
        """A copy of the average, in the model's own precision, for ``model.load_state_dict``."""
        return {name: value.to(self._dtypes[name], copy=True) for name, value in self._average.items()}

    def state_dict(self) -> dict[str, Any]:
        """The count of updates and the average (the tensors themselves, as torch's own state dicts)."""
        return {"updates": self.updates, "average": dict(self._average)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict` of another run of the same model; devices stay as they are.

        Raises:
            ValueError: the state is of a model with other names or shapes.
        """
        self._check(state["average"], "the state")
        for name, average in self._average.items():
            average.copy_(state["average"][name])
        self.updates = int(state["updates"])

    def _check(self, values: dict[str, Tensor], what: str) -> None:
        if values.keys() != self._average.keys():
            odd = sorted(values.keys() ^ self._average.keys())
            raise ValueError(
                f"expected {what} to have the averaged names, but got a difference in {odd}; use one model"
            )
        for name, average in self._average.items():
            if values[name].shape != average.shape:
                raise ValueError(
                    f"expected {name} of {what} to be {list(average.shape)}, but got {list(values[name].shape)}; "
                    "use one model"
                )


def _values(model: nn.Module) -> dict[str, Tensor]:
    # A module's extra state may be anything; only tensors can be averaged.
    return {name: value.detach() for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
