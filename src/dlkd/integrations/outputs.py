"""Models that return more than logits."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class LogitsOf(nn.Module):
    """A model whose outputs have ``logits``, as those of Hugging Face, as one that returns them alone.

    Args:
        model: images → an object or a dictionary with ``logits`` ``[B, C]``; plain logits are passed on.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images → logits ``[B, C]``.

        Raises:
            ValueError: there are none in what the model returns.
        """
        return logits_of(self.model(images), type(self.model).__name__)


def logits_of(output: object, who: str) -> Tensor:
    """The logits in what the model ``who`` returned: the tensor itself, or its ``logits``.

    Raises:
        ValueError: there are none.
    """
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor):
        raise ValueError(f"expected {who} to return logits, or an object with logits, but got {type(output).__name__}")
    return found
