"""Choose how much to prune by how much of the teacher's accuracy may go."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlkd.difficulty.probe import Scope, prune_teacher

GRID = tuple(round(0.05 * k, 2) for k in range(1, 19))
"""0.05, 0.10, …, 0.90."""


Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Makes (images in the teacher's input format and on its device, class numbers ``[B]``), the same every time."""


class AutoSparsity(NamedTuple):
    """What :func:`auto_sparsity` found; accuracies are top-1 in per cent."""

    sparsity: float
    """The chosen share of weights to zero."""
    teacher_accuracy: float
    table: tuple[tuple[float, float], ...]
    """(sparsity, accuracy of its probe), upwards, up to and with the first that fell short."""


def auto_sparsity(
    teacher: nn.Module,
    batches: Batches,
    *,
    keep: float = 0.95,
    scope: Scope = "global",
    grid: Sequence[float] = GRID,
) -> AutoSparsity:
    """The largest sparsity s of the grid with accuracy(probe_s) ≥ keep·accuracy(teacher).

    The grid is scanned upwards and the scan stops at the first that falls short: accuracy falls with
    sparsity by nature, and a lucky one further up must not win. The rule is ours, not the paper's.

    The images must be ones that the teacher has **not** trained on, else its memory of them hides the
    damage (a CIFAR-100 teacher that keeps 97 % of its test accuracy keeps 99.5 % on its training
    images); and none that a result will be reported on, since something is chosen here.

    Args:
        teacher: images → logits ``[B, C]``; left untouched.
        batches: called for the teacher and once more for every sparsity, so that no more than one batch need be in
            memory; gives (images in the teacher's input format and on its device, class numbers ``[B]``).
        keep: share of the teacher's accuracy that must stay, in (0, 1].
        scope: of the pruning, see :func:`dlkd.prune_teacher`.
        grid: sparsities in rising order.

    Raises:
        ValueError: even the smallest sparsity falls short (the message names the accuracies), the teacher
            is right on no image, there are no images, or ``keep`` or ``grid`` are out of range.
    """
    _check_rule(keep, grid)
    # Nothing pruned: an eval copy, so that the mode of the caller's teacher need not be touched.
    right, total = _right(prune_teacher(teacher, 0.0, scope), batches)
    if right == 0:
        raise ValueError(
            f"expected the teacher to be right on some of the {total} images, but it is right on none; "
            "do images and labels belong together, and are they in its input format?"
        )
    table: list[tuple[float, float]] = []
    chosen: float | None = None
    for sparsity in grid:
        kept, _ = _right(prune_teacher(teacher, sparsity, scope), batches)
        table.append((sparsity, 100 * kept / total))
        if kept < keep * right:
            break
        chosen = sparsity
    if chosen is None:
        raise ValueError(
            f"expected a probe to keep {keep:g} of the teacher's accuracy of {100 * right / total:.2f} %, "
            f"but the smallest sparsity {grid[0]:g} is left with {table[0][1]:.2f} %; lower keep or the grid"
        )
    return AutoSparsity(chosen, 100 * right / total, tuple(table))


def _check_rule(keep: float, grid: Sequence[float]) -> None:
    if not 0 < keep <= 1:
        raise ValueError(f"expected keep to be in (0, 1], but got {keep}")
    if not grid or any(a >= b for a, b in itertools.pairwise(grid)):
        raise ValueError(f"expected grid to be sparsities in rising order, but got {list(grid)}")


@torch.no_grad()
def _right(model: nn.Module, batches: Batches) -> tuple[int, int]:
    """Number of images that ``model`` is right on, and of all."""
    right = total = 0
    for images, labels in batches():
        predicted = model(images).argmax(dim=1)
        if labels.shape != predicted.shape:
            raise ValueError(f"expected labels of shape {list(predicted.shape)}, but got {list(labels.shape)}")
        right += int((predicted == labels.to(predicted.device)).sum())
        total += labels.numel()
    if total == 0:
        raise ValueError("expected at least one image to choose the sparsity on, but got none")
    return right, total
