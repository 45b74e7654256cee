"""The same KD step in other libraries, as their own training scripts take it (extra ``benchmark``).

Each is given the student, the teacher in eval mode and batches already in the models' input format: normalising, which
our loop does in the step, is done for them beforehand. With channels-last, models and batches come in that format.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlkd.models import InputFormat

Step = Callable[[Tensor, Tensor], float]
"""Images in the input format ``[B, C, H, W]`` and labels ``[B]`` → the loss of the step that was taken."""
LR, MOMENTUM, WEIGHT_DECAY = 0.05, 0.9, 5e-4
TEMPERATURE, CE_WEIGHT = 4.0, 0.1
"""The loss is 0.1·CE + 0.9·T²·KL in all of them, so that no formula differs."""


class Models(NamedTuple):
    """What a peer trains, and by what."""

    student: nn.Module
    teacher: nn.Module
    input_format: InputFormat
    device: torch.device


def torchdistill(models: Models) -> Step | None:
    """Its ``DistillationBox`` and the body of its example's loop, by a configuration like those of its examples; norms
    and biases decay too."""
    try:
        from torchdistill.common.constant import def_logger
        from torchdistill.core.distillation import get_distillation_box
        from torchdistill.misc.log import MetricLogger, SmoothedValue
    except ImportError:
        return None
    def_logger.setLevel(logging.WARNING)
    kd = {
        "key": "KDLoss",
        "kwargs": {
            **{f"{who}_module_path": "." for who in ("student", "teacher")},
            **{f"{who}_module_io": "output" for who in ("student", "teacher")},
            "temperature": TEMPERATURE,
            "alpha": CE_WEIGHT,
            "reduction": "batchmean",
        },
    }
    config = {
        "num_epochs": 1,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, "frozen_modules": []},
        "student": {"forward_proc": "forward_batch_only", "requires_grad": True, "frozen_modules": []},
        "optimizer": {"key": "SGD", "kwargs": {"lr": LR, "momentum": MOMENTUM, "weight_decay": WEIGHT_DECAY}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
            "func2extract_model_loss": "extract_model_loss_dict",
        },
    }
    box = get_distillation_box(models.teacher, models.student, {}, config, models.device, None, False, 1)
    box.pre_epoch_process(epoch=0)
    meters = MetricLogger(delimiter="  ")
    meters.add_meter("lr", SmoothedValue(window_size=1, fmt="{value}"))

    def step(images: Tensor, labels: Tensor) -> float:
        loss = box.forward_process(images, labels, None)
        box.post_forward_process(loss=loss)
        value = float(loss.item())
        meters.update(loss=value, lr=box.optimizer.param_groups[0]["lr"])
        if bool(torch.isnan(loss) or torch.isinf(loss)):
            raise ValueError(f"the loss is {value}")
        return value

    return step


def timm(models: Models) -> Step | None:
    """Its task of logit distillation and what its ``train.py`` does in a step; its optimizer factory leaves norms and
    biases without decay, as ours does."""
    try:
        from timm.optim import create_optimizer_v2
        from timm.task import LogitDistillationTask
        from timm.utils import AverageMeter
    except ImportError:
        return None
    form = models.input_format
    published = {"mean": form.mean or (0.0,) * 3, "std": form.std or (1.0,) * 3}
    for model, (name, value) in (
        (m, item)
        for m in (models.student, models.teacher)
        for item in (("pretrained_cfg", published), ("num_classes", None), ("in_chans", 3))
    ):
        # Networks that are not timm's get what the task reads of a model: both want the same input here.
        if not hasattr(model, name):
            setattr(model, name, value)
    task = LogitDistillationTask(
        models.student,
        models.teacher,
        nn.CrossEntropyLoss(),
        temperature=TEMPERATURE,
        task_loss_weight=CE_WEIGHT,
        distill_loss_weight=1 - CE_WEIGHT,
        device=models.device,
        verbose=False,
    )
    task.train()
    optimizer = create_optimizer_v2(
        task.get_trainable_module(), opt="momentum", lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
    )
    meter = AverageMeter()

    def step(images: Tensor, labels: Tensor) -> float:
        loss = task(images, labels)["loss"]
        loss.backward()
        optimizer.step()
        meter.update(loss.item(), images.size(0))
        optimizer.zero_grad()
        return float(meter.val)

    return step


PEERS: dict[str, Callable[[Models], Step | None]] = {"torchdistill": torchdistill, "timm": timm}


def in_turn(step: Step, batches: list[tuple[Tensor, Tensor]]) -> Callable[[int], None]:
    """So many steps on batches that take turns."""

    def work(steps: int) -> None:
        for k in range(steps):
            step(*batches[k % len(batches)])

    return work
