"""From a distance, whose scale depends on teacher and probe, to a difficulty level in [0, 1]."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from dlkd.difficulty.distance import MAX_DISTANCE
from dlkd.losses.precision import looks_at_values

LevelMode = Literal["rank", "absolute", "batch"]
QUANTILES = 1025
"""Size of the kept reference: fixed, so that every checkpoint fits, whatever it was calibrated on."""


class DifficultyLevel(nn.Module):
    """Map distances ``[B]`` to levels ``[B]`` in [0, 1].

    - ``rank`` (default): mid-rank (#less + ½·#equal)/N among N reference distances. They are kept as
      1,025 quantiles and their number; inside a cell the rank is linear, so the level is exact up to
      1/1024 + 1/N. Before :meth:`calibrate` it behaves like ``batch`` and warns once.
    - ``absolute``: d/bound. Distances are very skewed, so this hardly moves most samples.
    - ``batch``: mid-rank inside the batch; needs no reference, depends on the company.

    The mapping is our choice, not the paper's: its abstract leaves it open.

    Args:
        mode: see above.
        bound: the largest value that a distance can take, √2 for :func:`probe_distance`; None where there is none.

    Raises:
        ValueError: an unknown mode, or ``absolute`` for a score without a bound.
    """

    quantiles: Tensor
    count: Tensor

    def __init__(self, mode: LevelMode = "rank", bound: float | None = MAX_DISTANCE) -> None:
        super().__init__()
        if mode not in get_args(LevelMode):
            raise ValueError(f"expected level to be one of {list(get_args(LevelMode))}, but got {mode!r}")
        if mode == "absolute" and bound is None:
            raise ValueError("expected level to be rank or batch for a difficulty without a largest value")
        self.mode, self.bound = mode, bound
        self.register_buffer("quantiles", torch.zeros(QUANTILES))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self._calibrated = self._warned = False

    @property
    def calibrated(self) -> bool:
        """Has a reference been set, by :meth:`calibrate` or by loading a checkpoint?"""
        if looks_at_values():
            self._calibrated = int(self.count) > 0
        return self._calibrated

    @torch.no_grad()
    def calibrate(self, distances: Tensor) -> None:
        """Set the reference from distances ``[N]`` of views of the family that will be trained on."""
        if distances.ndim != 1 or distances.numel() == 0:
            raise ValueError(f"expected reference distances of shape [N], but got {list(distances.shape)}")
        if not bool(distances.isfinite().all()):
            raise ValueError("expected finite reference distances")
        ordered = distances.detach().to(torch.float64).cpu().sort().values
        n = ordered.numel()
        # Hazen positions: the i-th of n ordered values stands at (i + ½)/n, which is its mid-rank.
        position = (torch.linspace(0, 1, QUANTILES, dtype=torch.float64) * n - 0.5).clamp(0, n - 1)
        below = position.floor().long()
        above = (below + 1).clamp(max=n - 1)
        low, high = ordered[below], ordered[above]
        # Where both neighbours tie, the value is theirs to the last bit: ties stay ties.
        grid = torch.where(low == high, low, low + (position - below) * (high - low))
        self.quantiles.copy_(grid)
        self.count.fill_(n)
        self._calibrated = True

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        super()._load_from_state_dict(*arguments, **keywords)
        # Kept beside the buffer for compiled graphs, which cannot look at the value of a tensor.
        self._calibrated = int(self.count) > 0

    @torch.no_grad()
    def forward(self, distances: Tensor) -> Tensor:
        """Distances ``[B]`` → levels ``[B]``, fp32."""
        if distances.ndim != 1:
            raise ValueError(f"expected distances of shape [B], but got {list(distances.shape)}")
        d = distances.detach().float()
        if looks_at_values() and not bool(d.isfinite().all()):
            bad = (~d.isfinite()).nonzero().flatten().tolist()
            raise ValueError(f"expected finite distances, but those at positions {bad} of the batch are not")
        if self.mode == "absolute":
            assert self.bound is not None
            return (d / self.bound).clamp(0, 1)
        if self.mode == "rank" and self.calibrated:
            return self._rank(d)
        if self.mode == "rank" and not self._warned:
            self._warned = True
            warnings.warn(
                "the difficulty level has no reference distances yet, so it ranks inside each batch; "
                "call calibrate(distances) once with distances of training views",
                stacklevel=2,
            )
        return batch_mid_rank(d)

    def over_views(self, distances: Tensor) -> Tensor:
        """Mean level of each image over its views: distances ``[V, N]`` → ``[N]``."""
        levels = [self.forward(row) for row in distances]
        return torch.stack(levels).mean(dim=0)

    def _rank(self, d: Tensor) -> Tensor:
        grid = self.quantiles.to(d.device)
        cells = QUANTILES - 1
        less = torch.searchsorted(grid, d, right=False)
        not_more = torch.searchsorted(grid, d, right=True)
        tied = (less + not_more - 1).float() / 2
        k = (less - 1).clamp(0, cells - 1)
        low, high = grid[k], grid[k + 1]
        between = k + (d - low) / (high - low).clamp(min=torch.finfo(d.dtype).tiny)
        level = torch.where(not_more > less, tied, between) / cells
        level = torch.where(less == QUANTILES, torch.ones_like(level), level)
        level = torch.where(not_more == 0, torch.zeros_like(level), level)
        return level.clamp(0, 1)

    def extra_repr(self) -> str:
        return f"mode={self.mode!r}, count={int(self.count)}"


def batch_mid_rank(values: Tensor) -> Tensor:
    """(#less + ½·#equal)/B of each of ``values`` ``[B]`` among all of them, itself included."""
    # Searched for, not compared pair by pair: a whole data set may be one batch.
    values = values.contiguous()
    ordered = values.sort().values
    less = torch.searchsorted(ordered, values)
    not_more = torch.searchsorted(ordered, values, right=True)
    return (less + not_more) / (2 * values.numel())
