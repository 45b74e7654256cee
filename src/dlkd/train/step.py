"""One step of the optimizer: forward, loss and backward of a batch, of one view or two, by one process or several."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from dlkd.data import Batch, Stream, view_key
from dlkd.errors import UserError
from dlkd.methods import LossParts, Signals
from dlkd.store import Lesson, Lessons
from dlkd.train.replay import keep_batch
from dlkd.train.session import Session
from dlkd.train.teach import some_ids

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricModule


def train_step(session: Session, batch: Batch, step: int) -> None:
    """One optimizer step, in ``accumulate`` parts."""
    _seed(session, step)
    optim, share = session.options.optim, session.steps.share
    session.optimizer.zero_grad(set_to_none=True)
    for k in range(optim.accumulate):
        part = batch.map(itemgetter(slice(k * share, (k + 1) * share)))
        _backward(session, part, step, last=k == optim.accumulate - 1)
    session.group.average_gradients(session.method.parameters())
    if optim.clip is not None:
        session.fabric.clip_gradients(session.student, session.optimizer, max_norm=optim.clip)
    session.optimizer.step()
    if session.average is not None:
        session.average.update(session.module)


def _seed(session: Session, step: int) -> None:
    """Dropout and all else that a step draws depend on (seed, step, process) alone; what all processes draw of the
    whole batch is what one process would draw."""
    seed, group = session.options.seed, session.group
    own = int(view_key(seed, step, group.rank, Stream.STEP))
    torch.default_generator.manual_seed(own)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(own)
    if group.size > 1:
        group.draws.manual_seed(int(view_key(seed, step, 0, Stream.STEP)))


def _backward(session: Session, batch: Batch, step: int, *, last: bool) -> None:
    """Forward and backward of one batch; of a weak/strong pair, of each view by itself, as their losses add up."""
    with _unsynchronised(session, last and batch.strong is None):
        session.loss_sum += _backward_view(session, batch, step, session.lessons, strong=False)
    if batch.strong is not None:
        with _unsynchronised(session, last):
            session.loss_sum += _backward_view(session, batch.strong_view(), step, session.strong_lessons, strong=True)


def _unsynchronised(session: Session, last: bool) -> AbstractContextManager[None]:
    """Gradients of several processes meet once a step, in its last backward."""
    if session.group.size == 1 or last:
        return contextlib.nullcontext()
    return session.fabric.no_backward_sync(cast("_FabricModule", session.student))


def _backward_view(session: Session, batch: Batch, step: int, lessons: Lessons | None, *, strong: bool) -> Tensor:
    """Returns the loss times the number of samples."""
    lesson = None if lessons is None else lessons(batch)
    if lesson is not None:
        _check_logits(session, lesson.logits, batch, step, "teacher", None)
    images = session.shown(batch.images)
    with session.taps.student if session.taps else contextlib.nullcontext():
        logits: Tensor = session.student(images)
    gradient: list[Tensor] = []
    logits.register_hook(gradient.append)
    signals = _signals(session, logits, lesson, batch, strong)
    if session.taps is not None and lesson is not None:
        student_features = tuple(session.taps.student.take())
        signals = signals._replace(student_features=student_features, teacher_features=lesson.features)
    parts = _parts(session, signals)
    if session.options.engine.check_finite and not bool(parts.total.isfinite()):
        _check_logits(session, logits, batch, step, "student", signals)
        if session.group.size > 1:  # it is another's batch that is kept, or the sum of all that is too large
            raise UserError(f"expected a finite loss, but got {parts.total.item()} at step {step}; lower --optim.lr")
        file = keep_batch(session, batch, step, signals)
        raise UserError(
            f"expected a finite loss, but got {parts.total.item()} at step {step}; lower --optim.lr. The batch is kept "
            f"in {file}"
        )
    session.fabric.backward(parts.total / session.options.optim.accumulate)
    if not strong:
        teacher_logits = None if lesson is None else lesson.logits
        session.diagnostics.add(parts, logits.detach(), gradient[0], batch.labels, teacher_logits)
    return parts.total.detach().cpu().double() * len(batch.labels)


def _parts(session: Session, signals: Signals) -> LossParts:
    """The loss of a batch. Where the term of a sample depends on the others of the batch, all processes compute that of
    the whole: the mean of their gradients is then the gradient of one process."""
    group, method = session.group, session.method
    if group.size == 1 or (method.per_sample and signals.labelled is None):
        return method.parts(signals)

    def gathered(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(group.gather, value))
        return group.gather(value) if isinstance(value, Tensor) else value

    with group.drawing_alike():
        whole = method.parts(Signals(*map(gathered, signals)))
    return LossParts(whole.total, *(None if p is None else group.own(p) for p in whole[1:]))  # type: ignore[arg-type]


def _signals(session: Session, logits: Tensor, lesson: Lesson | None, batch: Batch, strong: bool) -> Signals:
    """What the method sees; where nobody teaches, the student's own logits stand in for the teacher's."""
    labelled = batch.labelled_share() if session.data.train.partly_labelled else None
    taught = logits.detach() if lesson is None else lesson.logits
    signals = Signals(logits, taught, batch.target, strong=strong, labelled=labelled, positions=batch.positions)
    if lesson is None:
        return signals
    level = None
    if session.level_table is not None:
        level = session.level_table[batch.positions]
    elif session.level is not None:
        ids, group = session.data.train.ids[batch.positions.cpu().numpy()], session.group
        # All of them: a level may be the rank within the batch.
        level = group.own(session.level(group.gather(session.difficulty(lesson, batch.target, ids))))
    return signals._replace(level=level, probe_logits=lesson.probe_logits)


def _check_logits(session: Session, logits: Tensor, batch: Batch, step: int, who: str, signals: Signals | None) -> None:
    if not session.options.engine.check_finite or bool(logits.isfinite().all()):
        return
    rows = (~logits.isfinite().all(dim=1)).nonzero().flatten().cpu()
    ids = session.data.train.ids[batch.positions.cpu()[rows].numpy()]
    hint = "lower --optim.lr" if who == "student" else "use other weights or --teacher.precision fp32"
    file = keep_batch(session, batch, step, signals)
    raise UserError(
        f"the {who}'s logits are not finite at step {step} for sample ids {some_ids(ids)}; {hint}. The batch is kept "
        f"in {file}"
    )
