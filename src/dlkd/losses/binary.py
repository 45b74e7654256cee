"""KL divergence of two-event distributions, in log space: no overflow at any margin."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class LogEvent(NamedTuple):
    """Log-probabilities of an event and of its opposite, each ``[M]``."""

    yes: Tensor
    no: Tensor


class Split(NamedTuple):
    """A prediction taken apart at one class of each row."""

    event: LogEvent
    """The class against all others, ``[M]``."""
    others: Tensor
    """log softmax over the other classes, ``[M, C]``; 0 at the class left out, which stands for "no term"."""


def split(logits: Tensor, classes: Tensor) -> Split:
    """Both parts from one log-sum-exp over the other classes."""
    own, rest = _apart(logits, classes)
    return Split(_event(own, rest), (logits - rest).scatter(1, classes.unsqueeze(1), 0.0))


def _apart(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of the class, and the log-sum-exp of all others, ``[M, 1]`` each."""
    column = classes.unsqueeze(1)
    rest = torch.logsumexp(logits.scatter(1, column, -torch.inf), dim=1, keepdim=True)
    return logits.gather(1, column), rest


def _event(own: Tensor, rest: Tensor) -> LogEvent:
    whole = torch.logaddexp(own, rest)
    return LogEvent((own - whole).squeeze(1), (rest - whole).squeeze(1))


class Odds(NamedTuple):
    """As :class:`Split` by log softmax itself, for losses that find their gradient themselves, and for NKD."""

    log_odds: Tensor
    """log p − log(1 − p) of the class, ``[M, 1]``."""
    others: Tensor
    """log softmax over the other classes, ``[M, C]``; at the class left out so low that its exponential is 0."""

    @property
    def event(self) -> LogEvent:
        """log p and log(1 − p)."""
        z = self.log_odds.squeeze(1)
        return LogEvent(functional.logsigmoid(z), functional.logsigmoid(-z))


def odds(logits: Tensor, classes: Tensor) -> Odds:
    """One class against all others, and these among themselves, by one softmax. The logits are written over."""
    column = classes.unsqueeze(1)
    own = logits.gather(1, column)
    others = torch.log_softmax(logits.scatter_(1, column, lowest(logits)), dim=1)
    # max − log softmax(max) is the log-sum-exp: a pass over the row without exponentials.
    return Odds(own - logits.amax(dim=1, keepdim=True) + others.amax(dim=1, keepdim=True), others)


def lowest(like: Tensor) -> float:
    """Stands for −∞ before a softmax, of which differences are not NaN."""
    return torch.finfo(like.dtype).min / 4


def log_event(logits: Tensor, classes: Tensor) -> LogEvent:
    """log p and log(1 − p) of one class of each row under softmax, both by one log-sum-exp.

    log(1 − p) is the log-sum-exp of the other classes: official DKD and RLD take the logarithm of a summed
    probability, which is infinite in fp32 at a margin of about 100.
    """
    return _event(*_apart(logits, classes))


def event_kl(p: LogEvent, q: LogEvent) -> Tensor:
    """p·log(p/q) + (1 − p)·log((1 − p)/(1 − q)), ``[M]``."""
    return p.yes.exp() * (p.yes - q.yes) + p.no.exp() * (p.no - q.no)
