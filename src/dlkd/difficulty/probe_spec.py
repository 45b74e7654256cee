"""A probe as a value: what makes it, what it is called, and the distance columns named after it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlkd.difficulty.channels import prune_channels
from dlkd.difficulty.probe import Scope, prune_teacher
from dlkd.difficulty.probe_norm import ProbeNorm, recalibrate_norms, use_batch_statistics

Criterion = Literal["l1", "random", "channels"]


@dataclass(frozen=True)
class ProbeSpec:
    """The settings of one probe; see :func:`dlkd.prune_teacher` for the first four.

    Args:
        sparsity: share of the weights to zero, in [0, 1).
        scope: ``global`` or ``layer``.
        criterion: ``l1`` or ``random`` weights set to zero, or whole ``channels`` taken out
            (:func:`dlkd.difficulty.prune_channels`).
        seed: of the random choice; without effect on ``l1``.
        norm: statistics of batch normalisation; a teacher without any gives the same probe whatever it says.

    Raises:
        ValueError: an unknown norm here, anything else in :meth:`make`.
    """

    sparsity: float = 0.3
    scope: Scope = "global"
    criterion: Criterion = "l1"
    seed: int = 0
    norm: ProbeNorm = "eval"

    def __post_init__(self) -> None:
        if self.norm not in get_args(ProbeNorm):
            raise ValueError(f"expected norm to be one of {list(get_args(ProbeNorm))}, but got {self.norm!r}")

    @property
    def name(self) -> str:
        """As ``global-0.3``, ``global-0.3-random7``, ``layer-0.1-bn.batch``, ``layer-0.1-channels``: only what departs
        from the default."""
        choice = {"l1": "", "random": f"-random{self.seed}", "channels": "-channels"}[self.criterion]
        norm = "" if self.norm == "eval" else f"-bn.{self.norm}"
        return f"{self.scope}-{self.sparsity:.12g}{choice}{norm}"

    @property
    def needs_images(self) -> bool:
        """Are images wanted to make it?"""
        return self.norm == "recalibrated" or self.criterion == "channels"

    def make(self, teacher: nn.Module, batches: Iterable[Tensor] | None = None) -> nn.Module:
        """Prune a copy of ``teacher``, then give it its normalisation statistics.

        Args:
            teacher: left untouched.
            batches: images in the teacher's input format, read for ``recalibrated`` and for ``channels`` only.

        Raises:
            ValueError: ``recalibrated`` or ``channels`` without batches, or what :func:`dlkd.prune_teacher` and
                :func:`dlkd.difficulty.prune_channels` raise.
        """
        if self.needs_images and batches is None:
            raise ValueError(f"expected batches of images to make the probe {self.name} with, but got none")
        if self.criterion == "channels":
            assert batches is not None
            batches = list(batches)
            probe = prune_channels(teacher, self.sparsity, self.scope, batches[0][:2])
        else:
            probe = prune_teacher(teacher, self.sparsity, self.scope, criterion=self.criterion, seed=self.seed)
        if self.norm == "batch":
            use_batch_statistics(probe)
        elif self.norm == "recalibrated" and batches is not None:
            recalibrate_norms(probe, batches)
        return probe


def column_name(probe: str, temperature: float, kind: str = "l2") -> str:
    """Name of the column of distances of a probe at a temperature τ_d, as ``global-0.3/l2/tau1``."""
    return f"{probe}/{kind}/tau{temperature:.12g}"


def mean_distance(columns: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """1/K·Σ_k d_k over the named columns: the difficulty that several probes agree on.

    Args:
        columns: name → distances ``[B]``; more than the named ones may be there.
        names: of at least one column; see :func:`column_name`.

    Returns:
        ``[B]``, fp32.

    Raises:
        ValueError: no name was given, a column is missing, or the named ones are not all of one shape ``[B]``.
    """
    if not names:
        raise ValueError("expected the name of at least one column of distances, but got none")
    missing = [name for name in names if name not in columns]
    if missing:
        near = difflib.get_close_matches(missing[0], list(columns), n=1, cutoff=0)
        hint = f"; did you mean {near[0]!r} for {missing[0]!r}?" if near else ""
        raise ValueError(
            f"expected columns of distances named {', '.join(missing)}, "
            f"but got only {', '.join(columns) or 'none at all'}{hint}"
        )
    shapes = [list(columns[name].shape) for name in names]
    if len(shapes[0]) != 1 or any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"expected columns of distances to be of one shape [B], but got {shapes}")
    return torch.stack([columns[name].float() for name in names]).mean(dim=0)
