"""How a lesson is kept: number format, and all classes or the largest few."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dlkd.errors import UserError
from dlkd.store.lesson import LOGITS, PROBE_LOGITS, Lesson

Dtype = Literal["fp16", "fp32"]
_TORCH = {"fp16": torch.float16, "fp32": torch.float32}
ROUNDING = {"fp16": 2.0**-11, "fp32": 0.0}
"""Largest relative error of a kept logit."""
_INDEX, _REST = "/index", "/rest"
"""A top-k store keeps beside ``logits`` the classes that they are of, and the log-sum-exp of all others."""


@dataclass(frozen=True)
class Storage:
    """The form in which logits are kept. Difficulties are always fp32.

    With ``top_k``, the k largest logits of a sample are kept with their classes, and r = log Σ exp(z) over all other
    classes. They come back as r − log(C − k) each: at temperature 1 every kept class has exactly the probability that
    the teacher gave it, and what is left is shared equally by the rest.

    Args:
        dtype: of logits: fp16 (error at most 2⁻¹¹ of the value) or fp32 (exact).
        top_k: logits of a sample that are kept; None for all.
    """

    dtype: Dtype = "fp16"
    top_k: int | None = None

    def encode(self, lesson: Lesson) -> dict[str, Tensor]:
        """The tensors that are kept of a lesson.

        Raises:
            UserError: finite logits that are too large for fp16.
        """
        found = dict(lesson.columns)
        for name, logits in ((LOGITS, lesson.logits), (PROBE_LOGITS, lesson.probe_logits)):
            if logits is not None:
                found |= self._encode(name, logits)
        return found

    def decode(self, tensors: Mapping[str, Tensor], classes: int) -> Lesson:
        """The lesson that :meth:`encode` was given, to within the rounding and the rule of ``top_k``."""
        logits = self._decode(LOGITS, tensors, classes)
        probe = self._decode(PROBE_LOGITS, tensors, classes) if PROBE_LOGITS in tensors else None
        columns = {k: v for k, v in tensors.items() if not k.startswith((LOGITS, PROBE_LOGITS))}
        return Lesson(logits, columns, probe)

    def misfit(
        self, tensors: Mapping[str, Tensor], rows: int, classes: int, columns: Collection[str], *, probe_logits: bool
    ) -> str | None:
        """Why these cannot be what :meth:`encode` made of ``rows`` lessons, in words; None where they can."""
        whole = [rows, self.top_k or classes]
        expected: dict[str, tuple[list[int], torch.dtype]] = {name: ([rows], torch.float32) for name in columns}
        for name in (LOGITS, PROBE_LOGITS) if probe_logits else (LOGITS,):
            expected[name] = whole, _TORCH[self.dtype]
            if self.top_k is not None:
                expected[name + _INDEX], expected[name + _REST] = (whole, _index_type(classes)), ([rows], torch.float32)
        if odd := expected.keys() ^ tensors.keys():
            return f"{min(odd)} is {'not in it' if min(odd) in expected else 'in it'}"
        for name, (shape, dtype) in expected.items():
            values = tensors[name]
            if list(values.shape) != shape or values.dtype != dtype:
                return f"{name} is {list(values.shape)} of {values.dtype}, expected {shape} of {dtype}"
            if name.endswith(_INDEX) and not 0 <= int(values.min()) <= int(values.max()) < classes:
                return f"{name} is of classes that there are not"
        return None

    def bytes_per_sample(self, classes: int, columns: int, *, probe_logits: bool) -> int:
        """On disk, but for the header of a shard."""
        size = _TORCH[self.dtype].itemsize
        each = classes * size
        if self.top_k is not None:
            each = self.top_k * (size + _index_type(classes).itemsize) + 4
        return each * (2 if probe_logits else 1) + 4 * columns

    def check(self, classes: int) -> None:
        """Refuse more of the largest logits than there are classes.

        Raises:
            UserError: ``top_k`` is not in [1, classes).
        """
        if self.top_k is not None and not 1 <= self.top_k < classes:
            raise UserError(
                f"expected top_k to be from 1 to {classes - 1} (of {classes} classes), but got {self.top_k}"
            )

    def gap(self, tensors: Mapping[str, Tensor], lesson: Lesson) -> Tensor:
        """By how much the kept logits of each sample differ from those of ``lesson`` beyond their rounding, ``[B]``."""
        found = []
        for name, logits in ((LOGITS, lesson.logits), (PROBE_LOGITS, lesson.probe_logits)):
            if name in tensors and logits is not None:
                other = logits.cpu()
                if self.top_k is not None:
                    index = tensors[name + _INDEX].long()
                    rest = other.scatter(1, index, -math.inf).logsumexp(dim=1)
                    found.append(_beyond(tensors[name + _REST], rest, 0.0))
                    other = other.gather(1, index)
                found.append(_beyond(tensors[name].float(), other, ROUNDING[self.dtype]).amax(dim=1))
        return torch.stack(found).amax(dim=0)

    def _encode(self, name: str, logits: Tensor) -> dict[str, Tensor]:
        kept = self._narrow(name, logits)
        if self.top_k is None:
            return {name: kept}
        _, index = logits.topk(self.top_k, dim=1)
        rest = logits.scatter(1, index, -math.inf).logsumexp(dim=1).float()
        return {
            name: kept.gather(1, index),
            name + _INDEX: index.to(_index_type(logits.shape[1])),
            name + _REST: rest,
        }

    def _narrow(self, name: str, logits: Tensor) -> Tensor:
        narrow = logits.to(_TORCH[self.dtype])
        if bool((logits.isfinite() & ~narrow.isfinite()).any()):
            largest = logits[logits.isfinite()].abs().max().item()
            raise UserError(
                f"expected {name.replace('_', ' ')} below 65,504 for a store in fp16, but got {largest:.4g}; "
                "give --storage.dtype fp32"
            )
        return narrow

    def _decode(self, name: str, tensors: Mapping[str, Tensor], classes: int) -> Tensor:
        values = tensors[name].float()
        if self.top_k is None:
            return values
        share = tensors[name + _REST] - math.log(classes - self.top_k)
        whole = share.unsqueeze(1).repeat(1, classes)
        return whole.scatter_(1, tensors[name + _INDEX].long(), values)


def _beyond(kept: Tensor, other: Tensor, rounding: float) -> Tensor:
    """By how much two differ beyond their rounding; infinitely where one alone is not finite."""
    beyond = ((kept - other).abs() - other.abs() * rounding).clamp(min=0).nan_to_num(nan=math.inf, posinf=math.inf)
    return beyond.where(kept != other, 0.0)


def _index_type(classes: int) -> torch.dtype:
    return torch.int16 if classes <= torch.iinfo(torch.int16).max + 1 else torch.int32
