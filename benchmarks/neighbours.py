"""The losses of other libraries behind one signature, where these are installed (extra ``benchmark``)."""

from __future__ import annotations

import torch
from textbook import Loss
from torch import Tensor, nn


def torchdistill() -> dict[str, Loss]:
    """Its losses look their logits up in dictionaries; KD's without T², so a multiplication is added."""
    try:
        from torchdistill.losses import mid_level
    except ImportError:
        return {}
    where = ("m", "output", "m", "output")

    def wrapped(loss: nn.Module, factor: float = 1.0) -> Loss:
        return lambda s, t, y: factor * loss({"m": {"output": s}}, {"m": {"output": t}}, y)

    return {
        "kd": wrapped(mid_level.KDLoss(*where, temperature=4.0, beta=1.0), 16.0),
        "dist": wrapped(mid_level.DISTLoss(*where, tau=4.0)),
        "lskd": wrapped(mid_level.LogitStdKDLoss(*where, temperature=2.0, beta=1.0), 4.0),
    }


class Given(nn.Module):
    """A model that answers with the logits that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        self.logits = torch.empty(0)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def timm() -> dict[str, Loss]:
    """The logit distillation of its task; the label term is switched off by a criterion that returns a zero."""
    try:
        from timm.task import LogitDistillationTask
        from timm.task.distillation import DistillationTeacher
    except ImportError:
        return {}
    student, teacher, zero, image = Given(), Given(), torch.zeros(()), torch.zeros(1, 3, 1, 1)
    task = LogitDistillationTask(
        student,
        DistillationTeacher(teacher),
        criterion=lambda logits, y: zero,  # type: ignore[arg-type]
        temperature=4.0,
        task_loss_weight=0.0,
        distill_loss_weight=1.0,
        verbose=False,
    )

    def loss(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        student.logits, teacher.logits = s, t
        result: Tensor = task(image, y)["loss"]
        return result

    return {"kd": loss}
