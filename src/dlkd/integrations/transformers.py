"""A Hugging Face Trainer that distils image classifiers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dlkd.integrations.distiller import Distiller
from dlkd.integrations.outputs import logits_of
from dlkd.losses.cross_entropy import cross_entropy

try:
    from transformers import Trainer, TrainerCallback
except ImportError as error:
    raise ImportError(
        "expected the package transformers, but there is none: pip install 'dlkd[transformers]'"
    ) from error

FILE = "distiller.safetensors"
"""Beside the student in each checkpoint: what the method has learned, and the reference of its level."""


class DistillationTrainer(Trainer):
    """``transformers.Trainer`` whose training loss is that of a :class:`Distiller`.

    Batches have ``pixel_values`` and ``labels``; the student returns logits, or an output that has them. While it
    trains the loss is the method's; in evaluation the teacher is not asked, and the loss is the student's
    cross-entropy. What the method learns goes to the optimizer, in a group of its own, and to each checkpoint
    (``distiller.safetensors``); the teacher goes to neither. An image processor normalises: tell the distiller by
    ``undo`` where the teacher wants to see other images than the student. A teacher of Hugging Face goes in as
    :class:`dlkd.integrations.LogitsOf`.

    Args:
        model: the student.
        args: as in ``Trainer``, and so is all else.
        distiller: the teacher and the method.

    Raises:
        ValueError: see :meth:`Distiller.check_student`; no student, a loss of one's own or label smoothing beside that
            of the method, or a method that learns a temperature in several processes.
    """

    label_names: list[str]

    def __init__(
        self, model: nn.Module | None = None, args: Any = None, *rest: Any, distiller: Distiller, **more: Any
    ) -> None:
        if model is None:
            raise ValueError("expected the student as model, but got none; model_init is of no use here")
        if more.get("compute_loss_func") is not None or getattr(args, "label_smoothing_factor", None):
            raise ValueError(
                "expected neither compute_loss_func nor label_smoothing_factor: the loss is that of the distiller; "
                "choose its method and loss settings instead"
            )
        distiller.check_student(model)
        super().__init__(model, args, *rest, **more)
        self.distiller = distiller.to(self.args.device)
        if self.args.world_size > 1 and any(True for _ in distiller.parameters()):
            raise ValueError(
                f"expected one process for {distiller.name}: the Trainer does not average what is learned beside the "
                "student over several"
            )
        if not self.label_names:
            # Of a student whose forward takes no labels the Trainer would drop them from the batches.
            self.label_names = ["labels"]
        # The loss is the mean over a batch, which the Trainer has to divide by the accumulated batches.
        self.model_accepts_loss_kwargs = False
        self.add_callback(_Method(distiller))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Mapping[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """The loss of a batch, and where that is asked for what the student returned, as a dictionary with ``logits``.

        Raises:
            ValueError: a batch without pixel_values or labels, or what :meth:`Distiller.parts` raises.
        """
        missing = [name for name in ("pixel_values", "labels") if inputs.get(name) is None]
        if missing:
            raise ValueError(f"expected batches with pixel_values and labels, but got no {' and no '.join(missing)}")
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        logits = logits_of(outputs, "the student")
        if model.training:
            loss = self.distiller(inputs["pixel_values"], logits, inputs["labels"])
        else:
            loss = cross_entropy(logits, inputs["labels"]).mean()
        # Of anything but a dictionary the Trainer takes the first entry for the loss: of a tensor, the first sample.
        return (loss, outputs if isinstance(outputs, dict) else {"logits": logits}) if return_outputs else loss

    def create_optimizer(self, *args: Any, **more: Any) -> torch.optim.Optimizer:
        """The optimizer of ``Trainer``, with what the method learns added to it, without weight decay."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **more)
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if learned := [p for p in self.distiller.parameters() if id(p) not in known]:
            optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        return optimizer

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the student as ``Trainer`` does, and the method in ``distiller.safetensors``."""
        super().save_model(output_dir, _internal_call=_internal_call)
        if self.args.should_save and (state := self.distiller.state_dict()):
            save_file(state, Path(output_dir or self.args.output_dir) / FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        file = Path(resume_from_checkpoint) / FILE
        if file.is_file():
            self.distiller.load_state_dict(load_file(file))


class _Method(TrainerCallback):
    """Tells the method the epoch, and does for its gradients what the Trainer does for those of the student alone."""

    def __init__(self, distiller: Distiller) -> None:
        self.distiller = distiller

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.distiller.zero_grad()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.distiller.zero_grad()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        # Resumed within an epoch, the number has a fraction.
        self.distiller.start_epoch(int((state.epoch or 0) + 1e-6))
