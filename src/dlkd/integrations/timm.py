"""A task for timm's training script and for loops built on its tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dlkd.integrations.distiller import Distiller

try:
    from timm.models import group_parameters
    from timm.task import TrainingTask
    from timm.utils import unwrap_model
except ImportError as error:
    raise ImportError(
        "expected timm 1.0.27 or newer, which has tasks, but there is none: pip install 'dlkd[timm]'"
    ) from error


class StudentWithMethod(nn.Module):
    """Student and distiller: all that is trained, behind the one forward that DistributedDataParallel wants to see."""

    def __init__(self, student: nn.Module, distiller: Distiller) -> None:
        super().__init__()
        self.student, self.distiller = student, distiller

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Images and targets → see :meth:`DistillationTask.forward`."""
        logits = self.student(input)
        parts = self.distiller.parts(input, logits, target)
        result = {"loss": parts.total, "output": logits, "task_loss": parts.label.mean()}
        means = {"kd_loss": parts.distillation, "temperature": parts.temperature, "level": parts.level}
        return result | {name: values.detach().mean() for name, values in means.items() if values is not None}

    def no_weight_decay(self) -> set[str]:
        """Names of the student's parameters that want none, for timm's optimizer factory."""
        own = getattr(unwrap_model(self.student), "no_weight_decay", set)
        return {f"student.{name}" for name in own()}

    def group_matcher(self, coarse: bool = False) -> Callable[[str], int]:
        """Layer of each parameter, for layer-wise learning rates; what the method learns counts as the last."""
        student = unwrap_model(self.student)
        layers: dict[str, int] = {}
        if hasattr(student, "group_matcher"):
            layers = group_parameters(student, student.group_matcher(coarse=coarse), reverse=True)
        last = max(layers.values(), default=0)
        return lambda name: layers.get(name.removeprefix("student."), last)


class DistillationTask(TrainingTask):
    """A ``timm.task.TrainingTask`` that distils with any method of logits, into any student.

    Give ``task.get_trainable_module()`` to ``create_optimizer_v2`` and ``task=task`` to ``CheckpointSaver``: the first
    has what the method learns, the checkpoint has the student as ``state_dict`` and the method as ``task_state``.
    Neither has the teacher.

    Args:
        student: images → logits ``[B, C]``, any module.
        distiller: the teacher and the method. timm's loaders normalise: say ``undo`` where the teacher wants to see
            other images than the student.
        device: of the task; None for that of the student. The distiller is moved there.
        dtype, verbose: as in ``TrainingTask``.

    Raises:
        ValueError: see :meth:`Distiller.check_student`.
    """

    def __init__(
        self,
        student: nn.Module,
        distiller: Distiller,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        verbose: bool = True,
    ) -> None:
        distiller.check_student(student)
        if device is None:
            device = next((p.device for p in student.parameters()), None)
        super().__init__(device=device, dtype=dtype, verbose=verbose)
        self.trainable_module: nn.Module = StudentWithMethod(student, distiller.to(self.device))

    @property
    def distiller(self) -> Distiller:
        """The teacher and the method."""
        found: Distiller = unwrap_model(self.trainable_module).distiller
        return found

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Images and targets (class numbers ``[B]``, or soft labels ``[B, C]`` of ``timm.data.Mixup``) → the loss.

        Returns:
            ``loss``, ``output`` (logits of the student ``[B, C]``), ``task_loss`` (mean label term) and, where the
            method has such, the means ``kd_loss``, ``temperature`` and ``level``, without gradient.
        """
        result: dict[str, Tensor] = self.trainable_module(input, target)
        return result

    def start_epoch(self, epoch: int) -> None:
        """Tell the method the epoch, counted from 0."""
        self.distiller.start_epoch(epoch)

    def prepare_distributed(self, device_ids: list[int] | None = None, **ddp_kwargs: Any) -> DistillationTask:
        """Wrap student and method, whose teacher is no part of them, for several processes; returns self."""
        self.trainable_module = DistributedDataParallel(self.trainable_module, device_ids=device_ids, **ddp_kwargs)
        return self

    def compile(self, backend: str = "inductor", mode: str | None = None, **compile_kwargs: Any) -> nn.Module:
        """Compile the student, for training and evaluation alike; returns it."""
        inner = unwrap_model(self.trainable_module)
        compiled = cast("nn.Module", torch.compile(inner.student, backend=backend, mode=mode, **compile_kwargs))
        inner.student = self.eval_model = compiled
        return compiled

    def get_eval_model(self, module: nn.Module | None = None, ema: bool = False) -> nn.Module | None:
        """The student, or its moving average."""
        found: nn.Module | None = super().get_eval_model(module=module, ema=ema)
        inner = None if found is None else unwrap_model(found)
        return inner.student if isinstance(inner, StudentWithMethod) else found

    def get_task_state(self, module: nn.Module | None = None, ema: bool = False) -> dict[str, Any]:
        """What the method has learned and the reference of its level; a moving average has none of its own."""
        state = {} if ema else self.distiller.state_dict()
        return {"distiller": state} if state else {}

    def load_task_state(
        self, state: dict[str, Any] | None, strict: bool = True, module: nn.Module | None = None, ema: bool = False
    ) -> None:
        """Undo :meth:`get_task_state`."""
        if state and not ema:
            self.distiller.load_state_dict(state["distiller"], strict=strict)

    def get_clip_parameters(self, exclude_head: bool = False) -> list[nn.Parameter]:
        """All that is trained, without the last two parameters of the student where those are excluded."""
        inner = unwrap_model(self.trainable_module)
        student = list(inner.student.parameters())
        return [*(student[:-2] if exclude_head else student), *self.distiller.parameters()]
