"""A loss and its gradient in one go: fewer ``[B, C]`` tensors made and kept than autograd needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dlkd.losses.precision import looks_at_values


class WithGradient(NamedTuple):
    """A value for each row (or column) of a matrix, which depends on no other row (or column)."""

    value: Tensor
    """``[B]``, or ``[C]`` for columns."""
    gradient: Tensor
    """``[B, C]``: of each value by its own row or column."""


def together(
    plain: Callable[[Tensor], Tensor],
    fast: Callable[[Tensor], WithGradient],
    student: Tensor,
    *constants: Tensor,
    dim: int = 1,
) -> Tensor:
    """``plain(student)``, whose gradient ``fast`` finds on the way.

    ``plain`` is the definition, in operations that autograd knows; ``fast`` is the same by hand. The former is taken
    where nothing is gained or more is asked for: no gradient, one of the constants that both use has a gradient of its
    own, torch.compile (which fuses by itself), transforms of torch.func, and the second derivative.

    Args:
        plain, fast: functions of ``[B, C]``.
        student: ``[B, C]``.
        constants: all that they use and that could have a gradient.
        dim: along which a value is taken: 1 for rows, 0 for columns.
    """
    simple = student.requires_grad and torch.is_grad_enabled() and not any(c.requires_grad for c in constants)
    if not simple or not looks_at_values() or torch._C._are_functorch_transforms_active():
        return plain(student)
    value: Tensor = _Together.apply(student, plain, fast, dim)
    return value


class _Together(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        plain: Callable[[Tensor], Tensor],
        fast: Callable[[Tensor], WithGradient],
        dim: int,
    ) -> Tensor:
        value, gradient = fast(student)
        ctx.plain, ctx.dim = plain, dim
        ctx.save_for_backward(student, gradient)
        return value

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> tuple[Tensor | None, ...]:
        student, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody wants to differentiate the gradient
            (gradient,) = torch.autograd.grad(ctx.plain(student), student, weights[0], create_graph=True)
            return gradient, None, None, None
        return gradient * weights[0].unsqueeze(ctx.dim), None, None, None
