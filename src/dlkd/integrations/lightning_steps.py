"""What a LightningModule that distils does, whichever of its two packages the class is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dlkd.integrations.distiller import Distiller
from dlkd.losses.cross_entropy import cross_entropy

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule as _Base
else:
    _Base = object

MakeOptimizer = Callable[[list[nn.Parameter]], Any]
"""From parameters to whatever ``configure_optimizers`` may return."""


class DistillationSteps(_Base):
    """A student and its :class:`Distiller` as a LightningModule.

    Batches are images and targets, ``(images, target)``: class numbers ``[B]`` or soft labels ``[B, C]``. Logged are
    ``train_loss``, ``val_loss``, ``val_accuracy``, ``test_loss`` and ``test_accuracy``, the losses of the last four
    being the cross-entropy of the student. A checkpoint has the student and what the method learns, not the teacher:
    ``DistillationModule.load_from_checkpoint(path, student=…, distiller=…, optimizer=…)``.

    Args:
        student: images → logits ``[B, C]``.
        distiller: the teacher and the method.
        optimizer: from all parameters that are trained, those of the method too, to an optimizer, or to whatever
            else Lightning takes from ``configure_optimizers``: with a schedule, for one.

    Raises:
        ValueError: see :meth:`Distiller.check_student`.
    """

    def __init__(self, student: nn.Module, distiller: Distiller, optimizer: MakeOptimizer) -> None:
        super().__init__()
        distiller.check_student(student)
        self.student, self.distiller, self.make_optimizer = student, distiller, optimizer

    def forward(self, images: Tensor) -> Tensor:
        """Images → logits ``[B, C]`` of the student."""
        logits: Tensor = self.student(images)
        return logits

    def configure_optimizers(self) -> Any:
        """What the given function makes of the parameters."""
        return self.make_optimizer([p for p in self.parameters() if p.requires_grad])

    def on_train_epoch_start(self) -> None:
        """Tell the method the epoch."""
        self.distiller.start_epoch(self.current_epoch)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        images, target = batch[0], batch[1]
        parts = self.distiller.parts(images, self.student(images), target)
        self.log("train_loss", parts.total.detach(), prog_bar=True, on_epoch=True, batch_size=len(images))
        return parts.total

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Log ``val_loss`` and ``val_accuracy``."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Log ``test_loss`` and ``test_accuracy``."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Sequence[Tensor], part: str) -> None:
        images, target = batch[0], batch[1]
        logits = self.student(images)
        labels = target.argmax(dim=1) if target.is_floating_point() else target
        right = (logits.argmax(dim=1) == labels).float().mean()
        figures = {f"{part}_loss": cross_entropy(logits, target).mean(), f"{part}_accuracy": right}
        self.log_dict(figures, prog_bar=True, batch_size=len(images))
