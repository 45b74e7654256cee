"""What the method does to whom: per epoch and by decile of the difficulty level."""

from __future__ import annotations

import torch
from torch import Tensor

from dlkd.methods import LossParts

DECILES = 10
_SUMS = ("samples", "level", "ce", "kd", "temperature", "gradient", "correct", "agree", "known", "labelled", "feature")


class Diagnostics:
    """Sums over an epoch, by decile of the level; what has no level is in a row of its own.

    They are a plain tensor, so that a checkpoint in the middle of an epoch keeps them.
    """

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(DECILES + 1, len(_SUMS), dtype=torch.float64, device=_with_float64(device))

    @torch.no_grad()
    def add(
        self, parts: LossParts, logits: Tensor, gradient: Tensor, labels: Tensor, teacher_logits: Tensor | None
    ) -> None:
        """Take in one batch.

        Args:
            parts: what the method returned.
            logits: of the student, ``[B, C]``.
            gradient: of the loss with respect to them, ``[B, C]``, up to one factor for all.
            labels: as given, ``[B]``; −1 for none.
            teacher_logits: ``[B, C]``, if there is a teacher.
        """
        n, predicted = labels.numel(), logits.argmax(dim=1)
        nothing = torch.zeros(n, device=logits.device)
        one = torch.ones_like(nothing)
        values = {
            "samples": one,
            "level": nothing if parts.level is None else parts.level,
            "ce": parts.label,
            "kd": nothing if parts.distillation is None else parts.distillation,
            "temperature": nothing if parts.temperature is None else parts.temperature,
            "feature": nothing if parts.feature is None else parts.feature,
            "gradient": torch.linalg.vector_norm(gradient.float(), dim=1),
            "correct": (predicted == labels).float(),
            "agree": nothing if teacher_logits is None else (predicted == teacher_logits.argmax(dim=1)).float(),
            "known": one if parts.labelled is None else parts.labelled,
            "labelled": one if parts.labelled is None else (labels >= 0).float(),
        }
        rows = torch.stack([values[name].detach().to(self.sums) for name in _SUMS], dim=1)
        if parts.level is None:
            decile = torch.full((n,), DECILES, device=self.sums.device)
        else:
            decile = (parts.level.to(self.sums.device) * DECILES).long().clamp(0, DECILES - 1)
        self.sums.index_add_(0, decile, rows)

    def epoch(self) -> dict[str, float | None]:
        """Means over all samples of the epoch so far; of the label term and the accuracy, over the labelled ones."""
        return self._means(self.sums.sum(dim=0))

    def by_level(self) -> list[dict[str, float | None]]:
        """The same for each decile that has samples; empty where the method knows no level."""
        return [{"decile": k + 1, **self._means(row)} for k, row in enumerate(self.sums[:DECILES].cpu()) if row[0] > 0]

    def _means(self, row: Tensor) -> dict[str, float | None]:
        sums = dict(zip(_SUMS, row.tolist(), strict=True))
        n, labelled = max(sums["samples"], 1), sums["labelled"]
        total = self.sums.sum(dim=0).tolist()
        mean_gradient = total[_SUMS.index("gradient")] / max(total[0], 1)
        return {
            "samples": int(sums["samples"]),
            "level": sums["level"] / n,
            "ce": None if sums["samples"] > sums["known"] == 0 else sums["ce"] / (sums["known"] or 1),
            "kd": sums["kd"] / n,
            "feature": sums["feature"] / n,
            "temperature": sums["temperature"] / n,
            # ‖∂loss/∂logits‖ of an average sample here, as a multiple of that of an average sample of all.
            "gradient_weight": sums["gradient"] / n / mean_gradient if mean_gradient else 0.0,
            "accuracy": None if sums["samples"] > labelled == 0 else 100 * sums["correct"] / max(labelled, 1),
            "agreement": 100 * sums["agree"] / n,
        }


def _with_float64(device: torch.device) -> torch.device:
    return torch.device("cpu") if device.type == "mps" else device
