"""The one object that a training loop of one's own needs: it asks the teacher, measures difficulty, gives the loss."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dlkd.difficulty import prune_teacher
from dlkd.methods import Composition, LabelOptions, LossOptions, LossParts, Signals, make_method
from dlkd.models import InputFormat
from dlkd.teacher import FrozenTeacher, TeacherOutput

Batches = Iterable[Tensor | Sequence[Tensor]]
"""Batches of images, or of images, targets and whatever else."""


class Distiller(nn.Module):
    """Teacher and method behind one call: images, the student's logits and labels → the loss of the batch.

    ::

        distiller = Distiller(teacher)
        distiller.calibrate(loader)  # once, over the augmented training views
        loss = distiller(images, student(images), labels)

    What the method learns and the reference of the difficulty level are its parameters and its state dict; the
    teacher is in neither, follows it from device to device, and stays in eval mode whatever is called on the module.
    An optimizer must be given ``distiller.parameters()`` too: there are some with CTKD.

    Args:
        teacher: images → logits ``[B, C]``, or a :class:`FrozenTeacher` that brings its own probes and input format.
            A model is frozen for good: a student that is to learn from itself gives a copy. None for a method without
            a teacher.
        method: a name as for ``--method`` on the command line, ``dlkd+dkd`` for one, or a composition.
        sparsity: of the probe, which is made where the method asks for one; for a teacher that is a model.
        input_format: from images in [0, 1] to what that model wants to see; None leaves them as they are.
        undo: the normalisation that the images of the loop have been through already, as by timm's loader or an
            image processor; it is undone for the teacher alone, before ``input_format``. Its resolution plays no part.
        loss: what departs from the defaults of the method.
        label: the label term, where it is not the method's own.
        classes: how many there are, for a temperature learned for each sample.

    Raises:
        ValueError: no teacher for a method that needs one, a teacher without the probe it needs, settings that are
            given twice, or a method that compares inner layers.
        UserError: an unknown method or setting; see :func:`dlkd.methods.make_method`.
    """

    def __init__(
        self,
        teacher: nn.Module | FrozenTeacher | None,
        method: str | Composition = "dlkd",
        *,
        sparsity: float = 0.3,
        input_format: Callable[[Tensor], Tensor] | None = None,
        undo: InputFormat | None = None,
        loss: LossOptions | None = None,
        label: LabelOptions | None = None,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.name = method if isinstance(method, str) else type(method).__name__
        self.method = _method(method, loss, label, classes)
        if self.method.needs_teacher and teacher is None:
            raise ValueError(f"expected a teacher for the method {self.name}, but got None")
        self.undo = None if undo is None else _inverse(undo)
        self.teacher = _frozen(teacher, self.method, self.name, sparsity, input_format)

    def forward(self, images: Tensor, student_logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch, a scalar; see :meth:`parts`."""
        return self.parts(images, student_logits, target).total

    def parts(
        self,
        images: Tensor,
        student_logits: Tensor,
        target: Tensor,
        *,
        strong: bool = False,
        labelled: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> LossParts:
        """The loss of a batch and what it is made of.

        Args:
            images: ``[B, …]``, the very views that the student has seen.
            student_logits: ``[B, C]``; the only ones with a gradient.
            target: class numbers ``[B]`` or soft labels ``[B, C]``, as of mixup.
            strong: are these the strong views of a pair? MLKD wants a call for each, and the sum of both.
            labelled: ``[B]``, 0 for images without a label; see :class:`dlkd.methods.Signals`.
            positions: ``[B]``, where the images stand in the training set, for a label term that remembers them.

        Raises:
            ValueError: shapes that do not fit, student and teacher with different classes, labels out of range,
                or logits of the teacher that are not finite.
        """
        signals = self.signals(images, student_logits, target, strong=strong, labelled=labelled, positions=positions)
        return self.method.parts(signals)

    def signals(
        self,
        images: Tensor,
        student_logits: Tensor,
        target: Tensor,
        *,
        strong: bool = False,
        labelled: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Signals:
        """What the method looks at; arguments and errors are those of :meth:`parts`."""
        if student_logits.ndim != 2 or len(student_logits) != len(images):
            raise ValueError(
                f"expected logits of the student [{len(images)}, classes] for {len(images)} images, "
                f"but got {list(student_logits.shape)}"
            )
        self._follow(images.device)
        if self.teacher is None or not self.method.needs_teacher:
            taught = student_logits.detach()
            return Signals(student_logits, taught, target, strong=strong, labelled=labelled, positions=positions)
        said = self._ask(self.teacher, images)
        if said.logits.shape != student_logits.shape:
            raise ValueError(
                f"expected a student with the {said.logits.shape[1]} classes of the teacher, but it has "
                f"{student_logits.shape[1]}; dlkd.teacher.SelectClasses brings a teacher to the student's"
            )
        level, score = self.method.level, self.method.score
        found = None if level is None or score is None else level(said.difficulty(score, target))
        probe = said.mean_probe_logits() if self.method.uses_probe else None
        return Signals(student_logits, said.logits, target, found, probe, strong, labelled, positions=positions)

    def calibrate(self, batches: Batches, limit: int | None = 10_000) -> None:
        """Set the reference of the difficulty level; nothing to do for a method without one.

        Args:
            batches: of the views that will be trained on, mixing included: images, or images and targets as a loader
                gives them. On any device.
            limit: at most so many images; None for all.

        Raises:
            ValueError: no images, or batches of another kind.
        """
        level, score, teacher = self.method.level, self.method.score, self.teacher
        if level is None or score is None or teacher is None:
            return
        if limit is not None and limit < 1:
            raise ValueError(f"expected limit to be at least 1, or None for all images, but got {limit}")
        found: list[Tensor] = []
        left = float("inf") if limit is None else limit
        for batch in batches:
            images, target = _images_and_target(batch, self._device)
            difficulty = self._ask(teacher, images).difficulty(score, target)
            found.append(difficulty if left >= len(difficulty) else difficulty[: int(left)])
            left -= len(found[-1])
            if left <= 0:
                break
        if not found:
            raise ValueError("expected at least one batch of images to calibrate on, but got none")
        level.calibrate(torch.cat(found))

    def start_epoch(self, epoch: int) -> None:
        """Tell the method the epoch, counted from 0: for a warm-up, or a temperature with a curriculum."""
        self.method.start_epoch(epoch)

    def check_student(self, student: nn.Module) -> None:
        """What a ready-made loop asks for: one view of each image, and a student that is not its own teacher.

        Raises:
            ValueError: the method wants two views, or student and teacher share weights.
        """
        if self.method.two_views:
            raise ValueError(
                f"expected a method with one view of each image, but {self.name} has a weak and a strong one; in a "
                "loop of your own add distiller.parts(…) of the weak and distiller.parts(…, strong=True) of the strong"
            )
        taught = {id(p) for model in self._models() for p in model.parameters()}
        if any(id(p) in taught for p in student.parameters()):
            raise ValueError(
                "expected student and teacher to be two models, but they share weights, which are frozen now; make "
                "the teacher of a copy, copy.deepcopy(model)"
            )

    def extra_repr(self) -> str:
        if self.teacher is None:
            return "teacher=None"
        return f"teacher={type(self.teacher.models[0]).__name__}, probes={list(self.teacher.probe_names)}"

    def _ask(self, teacher: FrozenTeacher, images: Tensor) -> TeacherOutput:
        """A loop in half precision has half images; the teacher keeps the precision of its weights."""
        weight = _first(teacher.models[0])
        if weight is not None and images.is_floating_point():
            images = images.to(weight.dtype)
        return teacher(images if self.undo is None else self.undo(images))

    def _models(self) -> tuple[nn.Module, ...]:
        return () if self.teacher is None else self.teacher.models

    @property
    def _device(self) -> torch.device | None:
        """Of teacher and method; None where there is nothing to place."""
        found = [t for t in map(_first, (*self._models(), self.method)) if t is not None]
        return found[0].device if found else None

    def _follow(self, device: torch.device) -> None:
        """Move method and teacher to the images, where somebody moved only the student."""
        if any(t.device != device for t in map(_first, (*self._models(), self.method)) if t is not None):
            self.to(device)

    def _apply(self, fn: Callable[..., Tensor], recurse: bool = True) -> Distiller:
        """Whatever moves the module moves the teacher; nothing changes a precision: a rank in halves is none."""

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        place: Any = super()._apply
        place(move, recurse)
        first = next((t for t in map(_first, self._models()) if t is not None), None)
        if self.teacher is not None and first is not None:
            device = fn(first.new_empty(0)).device
            if device.type != "meta":
                self.teacher.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Distiller:
        """A copy, as for a moving average, learns by itself but has the same teacher: it never changes."""
        memo[id(self.teacher)] = self.teacher
        copied = self.__class__.__new__(self.__class__)
        memo[id(self)] = copied
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied


def _method(
    method: str | Composition, loss: LossOptions | None, label: LabelOptions | None, classes: int | None
) -> Composition:
    if isinstance(method, str):
        made = make_method(method, loss, classes, label=label)
    elif loss is not None or label is not None:
        raise ValueError("expected loss and label settings with the name of a method only; a composition has its own")
    else:
        made = method
    if made.features is not None:
        raise ValueError(f"expected a method of logits, but {method} compares inner layers; `dlkd distill` can do that")
    return made


def _frozen(
    teacher: nn.Module | FrozenTeacher | None,
    method: Composition,
    name: str,
    sparsity: float,
    input_format: Callable[[Tensor], Tensor] | None,
) -> FrozenTeacher | None:
    if teacher is None:
        return None
    if isinstance(teacher, FrozenTeacher):
        if input_format is not None:
            raise ValueError("expected input_format with a model only; a FrozenTeacher has its own")
        if method.needs_probe and len(teacher.models) == 1:
            raise ValueError(
                f"expected a teacher with a probe for the method {name}, but this FrozenTeacher has none; give it "
                "probes=[prune_teacher(model)], or give the model itself"
            )
        return teacher
    probes = {f"global-{sparsity:.12g}": prune_teacher(teacher, sparsity)} if method.needs_probe else {}
    return FrozenTeacher(teacher, probes, input_format=input_format)


def _inverse(done: InputFormat) -> InputFormat:
    """x·std + mean, written as a format: (x + mean/std) / (1/std)."""
    if done.mean is None or done.std is None:
        return InputFormat()
    pairs = list(zip(done.mean, done.std, strict=True))
    return InputFormat(tuple(-m / s for m, s in pairs), tuple(1 / s for _, s in pairs))


def _images_and_target(batch: Tensor | Sequence[Tensor], device: torch.device | None) -> tuple[Tensor, Tensor | None]:
    parts = (batch,) if isinstance(batch, Tensor) else batch
    if isinstance(parts, Mapping) or not parts or not all(isinstance(x, Tensor) for x in parts[:2]):
        raise ValueError(
            f"expected batches of images, or of images and labels, but got {type(batch).__name__}; of a dictionary "
            "give (batch['pixel_values'], batch['labels'])"
        )
    images, target = parts[0], parts[1] if len(parts) > 1 else None
    return images.to(device), None if target is None else target.to(device)


def _first(module: nn.Module) -> Tensor | None:
    """A parameter, or else a buffer of it; of floating point, if there is such."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return next((t for t in tensors if t.is_floating_point()), None)
