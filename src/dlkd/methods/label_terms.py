"""What do the given labels say? The label terms of a method, each from the signals of a batch to ``[B]``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dlkd.losses.cross_entropy import cross_entropy
from dlkd.losses.precision import full_precision
from dlkd.losses.robust import (
    early_learning_regularizer,
    generalized_cross_entropy,
    label_trust,
    symmetric_cross_entropy,
)
from dlkd.methods.composition import LabelTerm, Signals, label_cross_entropy


@dataclass(frozen=True)
class LabelOptions:
    """The label term: what is learnt from the given labels, beside the teacher.

    Attributes:
        term: ce; or for labels that may be wrong: smoothing, gce (generalised cross-entropy), sce (symmetric
            cross-entropy), elr (early-learning regularisation), or trust (cross-entropy that counts less where the
            teacher is sure of another class and the image is easy); auto is the method's own, ce for most.
        smoothing: share of the label that goes to all classes, of smoothing.
        q: from 0 (cross-entropy) to 1 (mean absolute error), of gce.
        alpha: weight of the cross-entropy, of sce.
        beta: weight of the reverse cross-entropy, of sce.
        momentum: of the running mean of predictions, of elr.
        strength: weight of the regulariser, of elr.
    """

    term: Literal["auto", "ce", "smoothing", "gce", "sce", "elr", "trust"] = "auto"
    smoothing: float = 0.1
    q: float = 0.7
    alpha: float = 6.0
    beta: float = 0.1
    momentum: float = 0.9
    strength: float = 7.0


def trusted(signals: Signals) -> Tensor:
    """Cross-entropy, weighted by :func:`label_trust`."""
    trust = label_trust(signals.teacher_logits, signals.target, signals.level)
    return trust * cross_entropy(signals.student_logits, signals.target)


def smoothed(smoothing: float) -> LabelTerm:
    """CE to (1 − ε)·y + ε/C.

    Raises:
        ValueError: ε is not in [0, 1).
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"expected smoothing to be in [0, 1), but got {smoothing}")

    def label(signals: Signals) -> Tensor:
        logits = signals.student_logits
        uniform = logits.new_full(logits.shape, 1 / logits.shape[1], dtype=logits.float().dtype)
        return (1 - smoothing) * cross_entropy(logits, signals.target) + smoothing * cross_entropy(logits, uniform)

    return label


class EarlyLearning(nn.Module):
    """CE + λ·log(1 − ⟨m_i, p⟩), m_i the running mean of the predictions for the views of image i, mixed or not.

    The memory is a buffer ``[samples, classes]``: it is in every checkpoint, so that a resumed run goes on with it.

    Args:
        samples, classes: of the training set.
        momentum: of the mean, in [0, 1).
        strength: λ.

    Raises:
        ValueError: the numbers are not known, or a value makes no sense.
    """

    memory: Tensor

    def __init__(self, samples: int | None, classes: int | None, momentum: float, strength: float) -> None:
        super().__init__()
        if samples is None or classes is None:
            raise ValueError("expected the numbers of samples and classes for elr; give make_method both")
        if not 0 <= momentum < 1 or not 0 <= strength < math.inf:
            raise ValueError(f"expected momentum in [0, 1) and strength of at least 0, but got {momentum}, {strength}")
        self.momentum, self.strength = momentum, strength
        self.register_buffer("memory", torch.zeros(samples, classes))

    def forward(self, signals: Signals) -> Tensor:
        """``[B]``; moves the memory of the images on."""
        if signals.positions is None:
            raise ValueError("expected the positions of the samples for elr, but got none")
        logits = signals.student_logits
        with torch.no_grad():
            p = torch.softmax(full_precision(logits.detach()), dim=1).clamp(1e-4, 1 - 1e-4)
            kept = self.memory[signals.positions].to(p)
            kept = self.momentum * kept + (1 - self.momentum) * p / p.sum(dim=1, keepdim=True)
            self.memory[signals.positions] = kept.to(self.memory)
        return cross_entropy(logits, signals.target) + self.strength * early_learning_regularizer(logits, kept)


USED = {"smoothing": {"smoothing"}, "gce": {"q"}, "sce": {"alpha", "beta"}, "elr": {"momentum", "strength"}}
"""The settings that a term reads."""
_EARLIER = {"beta": 1.0}
"""Defaults of earlier versions: they are on the pages of their runs, which go on whatever the label term is."""


def make_label_term(options: LabelOptions, own: LabelTerm, *, samples: int | None, classes: int | None) -> LabelTerm:
    """The chosen label term; ``own`` is that of the method.

    Raises:
        ValueError: a value that makes no sense.
    """
    for name, default in asdict(LabelOptions()).items():
        stated = getattr(options, name) not in (default, _EARLIER.get(name, default))
        if name != "term" and stated and name not in USED.get(options.term, set()):
            term = next(term for term, used in USED.items() if name in used)
            raise ValueError(f"expected the label term {term} with label.{name}, but got {options.term}")
    if not all(0 <= weight < math.inf for weight in (options.alpha, options.beta)):
        raise ValueError(f"expected alpha and beta of sce to be at least 0, but got {options.alpha} and {options.beta}")
    made: dict[str, Callable[[], LabelTerm]] = {
        "auto": lambda: own,
        "ce": lambda: label_cross_entropy,
        "smoothing": lambda: smoothed(options.smoothing),
        "gce": lambda: _checked(lambda x: generalized_cross_entropy(x.student_logits, x.target, q=options.q)),
        "sce": lambda: (
            lambda x: symmetric_cross_entropy(x.student_logits, x.target, alpha=options.alpha, beta=options.beta)
        ),
        "elr": lambda: EarlyLearning(samples, classes, options.momentum, options.strength),
        "trust": lambda: trusted,
    }
    return made[options.term]()


def _checked(term: LabelTerm) -> LabelTerm:
    """Refuses a bad setting now instead of at the first batch."""
    term(Signals(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, dtype=torch.long)))
    return term
