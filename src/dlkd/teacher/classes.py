"""A teacher that knows more classes than its student, or has them in another order: chosen by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from dlkd.errors import UserError, first_line


class SelectClasses(nn.Module):
    """A model reduced to some of its classes, in a given order: z'_k = z_index[k].

    The softmax of what comes out is over the chosen classes alone: p'_k = p_index[k] / Σ_j p_index[j].

    Args:
        model: images → logits ``[B, C]``.
        index: for each class that is wanted, its number among those of the model.

    Raises:
        ValueError: no class, or a negative number.
    """

    index: Tensor

    def __init__(self, model: nn.Module, index: Sequence[int]) -> None:
        super().__init__()
        if not index or min(index) < 0:
            raise ValueError(f"expected numbers of classes of at least 0, but got {list(index)}")
        self.model, self.needed = model, max(index) + 1
        # No part of the weights: a state dict stays that of the model, but for its prefix.
        self.register_buffer("index", torch.tensor(list(index)), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images → logits ``[B, len(index)]``.

        Raises:
            ValueError: the model has fewer classes than the highest number asks for.
        """
        logits: Tensor = self.model(images)
        # Checked here: on an accelerator a wrong number ends the whole process.
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < self.needed:
            found = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"expected the teacher to return logits [B, {self.needed} or more], but got {found}")
        return logits.index_select(1, self.index)

    def extra_repr(self) -> str:
        return f"classes={len(self.index)}"


def class_index(own: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each wanted class stands among the teacher's own: own[result[k]] = wanted[k].

    Args:
        own: names of the teacher's outputs, in order.
        wanted: names of the classes of the data, in order. The same names in the same order are taken as they are,
            even where two classes share one.

    Raises:
        ValueError: the teacher lacks a class (the message has the nearest names), or a name stands for several.
    """
    if list(own) == list(wanted):
        return list(range(len(own)))
    if missing := [name for name in wanted if name not in set(own)]:
        near = difflib.get_close_matches(missing[0], own, n=2, cutoff=0)
        more = f" and {len(missing) - 1} more of them" if len(missing) > 1 else ""
        raise ValueError(
            f"expected a teacher that knows the {len(wanted)} classes of the data, but among its {len(own)} there is "
            f"no {missing[0]!r}{more} (nearest: {', '.join(map(repr, near))})"
        )
    for who, names in (("the data", wanted), ("the teacher", own)):
        if twice := next((name for name in wanted if list(names).count(name) > 1), None):
            raise ValueError(f"expected every class to have a name of its own, but {who} has several called {twice!r}")
    place = {name: k for k, name in enumerate(own)}
    return [place[name] for name in wanted]


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of a teacher's outputs, in order: one a line, or a JSON list of texts.

    Raises:
        UserError: no such file, nothing in it, or a line without a name among others.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"could not read class names from {path}: {first_line(error)}") from error
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = [line.strip() for line in text.rstrip().splitlines()]
    if isinstance(found, int | float):  # a single line that happens to be a number
        found = [text.strip()]
    if not isinstance(found, list) or not found or not all(isinstance(name, str) and name for name in found):
        raise UserError(
            f"expected {path} to hold class names, one a line or as a JSON list of texts, in the order "
            "of the teacher's outputs, without a gap"
        )
    return tuple(found)
