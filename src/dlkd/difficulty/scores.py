"""How hard is an image for its teacher? The distance to a probe, and what one network alone can say.

Any of them can drive the temperature, so "is the pruned teacher worth it?" is a one-word change. All rise with
difficulty; their scales differ, and the rank of :class:`dlkd.DifficultyLevel` takes that away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.precision import frozen, full_precision
from dlkd.losses.rules import energy
from dlkd.losses.weights import entropy

Score = Literal["probe", "js", "entropy", "confidence", "margin", "energy", "label"]
"""``probe`` and ``js`` need a probe; the others are functions of the teacher's logits."""
PROBE_SCORES: dict[str, str] = {"probe": "l2", "js": "js"}
"""Score → metric of the named columns (``global-0.3/l2/tau1``)."""


def one_minus_confidence(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """1 − max_c p_c, in [0, 1 − 1/C], ``[B]``."""
    return 1 - torch.softmax(teacher_logits, dim=1).amax(dim=1)


def one_minus_margin(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """1 − (p_first − p_second), in [0, 1], ``[B]``."""
    first, second = torch.softmax(teacher_logits, dim=1).topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def entropy_score(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """−Σ p·log p in nats, ``[B]``."""
    return entropy(teacher_logits)


def energy_score(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """E = −4·log Σ exp(z/4), the energy of Energy KD, ``[B]``; may be negative."""
    return energy(teacher_logits)


def label_score(teacher_logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy to the given label in nats, ``[B]``: large for wrong labels too."""
    return cross_entropy(teacher_logits, target)


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "entropy": entropy_score,
    "confidence": one_minus_confidence,
    "margin": one_minus_margin,
    "energy": energy_score,
    "label": label_score,
}


@torch.no_grad()
def difficulty_score(name: str, teacher_logits: Tensor, target: Tensor) -> Tensor:
    """One of :data:`SCORES` of each sample, fp32 ``[B]``.

    Args:
        name: entropy, confidence, margin, energy or label.
        teacher_logits: ``[B, C]``.
        target: class numbers ``[B]`` or soft labels ``[B, C]``; used by ``label`` alone.

    Raises:
        ValueError: an unknown name.
    """
    if name not in SCORES:
        raise ValueError(f"expected the score to be one of {', '.join(SCORES)}, but got {name!r}")
    return SCORES[name](full_precision(frozen(teacher_logits)), target).float()
