"""The loop: one for every method, and nothing in it that a method would have to change."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from dlkd.data import Batch, Samples, Stream, view_key
from dlkd.errors import UserError, first_line
from dlkd.evaluate import accuracy, logits_of
from dlkd.methods import LossParts, Signals
from dlkd.store import Lesson, Lessons
from dlkd.train.calibration import calibrate
from dlkd.train.checkpoint import load_checkpoint, save_checkpoint
from dlkd.train.diagnostics import Diagnostics
from dlkd.train.interrupt import Interrupted, StopRequest
from dlkd.train.log import BY_LEVEL, METRICS, Board, Screen, Waits, write_csv
from dlkd.train.memory import is_out_of_memory, too_large
from dlkd.train.optim import learning_rate, set_learning_rate
from dlkd.train.replay import keep_batch
from dlkd.train.session import Session
from dlkd.train.teach import some_ids
from dlkd.train.trackers import track, tracked

if TYPE_CHECKING:
    from lightning_fabric.wrappers import _FabricModule

AGREE_EVERY = 10
"""Steps between two questions to all processes whether one of them was told to stop."""
EVALUATED = 256
"""Held-out images that one process looks at in one go."""


def fit(session: Session) -> None:
    """Train the student of ``session`` in place, from its checkpoint if there is one; if not, calibrate first.

    Every step draws from a seed of its own, and order, views and learning rate are functions of the step:
    a resumed run needs nothing but the weights, the optimizer's state and the step number.

    Raises:
        Interrupted: SIGTERM or Ctrl-C; the checkpoint is written.
        UserError: logits that are not finite, an image that cannot be read, a disk that is full.
    """
    options, steps = session.options, session.steps
    total = session.epochs * steps.per_epoch
    group = session.group
    with StopRequest() as stop, group.in_one_line(), contextlib.ExitStack() as stack:
        start = restore(session)
        if start is None:
            if not calibrate(session, stop):
                raise Interrupted("stopped before the first step; give the same command again")
            start = 0
        if session.stalled:  # and was stopped before its end
            total = start
        # Killed between a checkpoint and its tables, an earlier process has left them a row short.
        _write_tables(session)
        board = Board(session.folder if options.engine.tensorboard and group.first else None, session.history)
        stack.enter_context(tracked(session))
        screen = stack.enter_context(Screen(session.title, total, start, quiet=session.quiet))
        session.student.train()
        batches = steps.loader(start, total, session.workers, options.data.timeout)
        waits = Waits()
        for step, batch in enumerate(waits.over(batches), start):
            _seed_step(options.seed, step, group.rank)
            group.draws.manual_seed(_step_key(options.seed, step, 0))  # what one process would draw of the whole batch
            rate = learning_rate(options.optim, step, total, steps.per_epoch)
            set_learning_rate(session.optimizer, rate)
            session.method.start_epoch(step // steps.per_epoch)
            _step_in_memory(session, batch, step)
            waits.images += len(batch.labels) * group.size
            done = step + 1
            stopped = bool(stop) if group.size == 1 else done % AGREE_EVERY == 0 and group.agree(bool(stop))
            screen.step(done, waits)
            if done % steps.per_epoch == 0:
                _end_epoch(session, done, rate, waits, screen, board)
                waits.reset()
            elif stopped or done % options.engine.checkpoint_every == 0:
                save(session, done)
            if done % steps.per_epoch == 0 and session.stalled:
                break
            if stopped and done < total:
                raise Interrupted(f"stopped after step {done} of {total}; go on with --out {session.folder} --resume")


def _step_in_memory(session: Session, batch: Batch, step: int) -> None:
    try:
        train_step(session, batch.to(session.fabric.device), step)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise too_large(session.steps.share, None, session.fabric.device) from error


def train_step(session: Session, batch: Batch, step: int) -> None:
    """One optimizer step, in ``accumulate`` parts."""
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
    images = session.input_format(batch.images)
    if session.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
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


def _step_key(seed: int, step: int, rank: int) -> int:
    return int(view_key(seed, step, rank, Stream.STEP))


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Dropout and all else that a step draws depend on (seed, step, process) alone."""
    key = _step_key(seed, step, rank)
    torch.default_generator.manual_seed(key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed(key)


def _end_epoch(session: Session, done: int, rate: float, waits: Waits, screen: Screen, board: Board) -> None:
    epoch, group = done // session.steps.per_epoch, session.group
    session.diagnostics.sums, session.loss_sum = map(group.total, (session.diagnostics.sums, session.loss_sum))
    means = session.diagnostics.epoch()
    # Without a teacher there is no lesson whose figures could be 0.
    method = session.method
    absent = {"level", "gradient_weight"}
    absent |= {"agreement"} if session.lessons is None else set()
    absent |= {"kd", "temperature"} if method.temperature is None else set()
    unused = {"feature"} if method.features is None else set()
    row: dict[str, float | int | None] = {
        "epoch": epoch,
        "step": done,
        "lr": rate,
        "loss": float(session.loss_sum) / (means["samples"] or 1),
        **{k: v for k, v in means.items() if k not in absent | unused},
        **waits.figures(),
    }
    if session.data.held_out is not None and session.evaluates(epoch):
        row["held_out_accuracy"] = _held_out_accuracy(session, session.data.held_out)
    session.history.append(row)
    for part in session.diagnostics.by_level():
        session.by_level.append({"epoch": epoch, **{k: v for k, v in part.items() if k not in unused}})
    session.diagnostics = Diagnostics(session.fabric.device)
    session.loss_sum = torch.zeros((), dtype=torch.float64)
    save(session, done)
    _write_tables(session)
    screen.epoch(row, session.epochs)
    board.add(row)
    track(session, row)


def _held_out_accuracy(session: Session, samples: Samples) -> float:
    """Every process looks at a share of the images, through the same eyes."""
    model, group = session.evaluated(), session.group
    group.spread(model.state_dict().values())  # statistics of batch norms are each process's own
    parts = group.share(np.array_split(np.arange(len(samples)), -(-len(samples) // EVALUATED)))
    found = [logits_of(model, samples.take(part), session.input_format, session.size)[0] for part in parts]
    return accuracy(torch.cat(group.collect(found)), samples.labels)


def _write_tables(session: Session) -> None:
    if not session.group.first:
        return
    write_csv(session.folder / METRICS, session.history)
    write_csv(session.folder / BY_LEVEL, session.by_level)


def save(session: Session, step: int) -> None:
    """Write a checkpoint, of all processes in one; neither teacher nor probe is in it."""
    group = session.group
    state = {
        "step": step,
        "student": session.module.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "method": session.method.state_dict(),
        "average": None if session.average is None else session.average.state_dict(),
        "scaler": session.fabric.strategy.precision.state_dict(),
        "level": None if session.level is None else session.level.state_dict(),
        "level_table": session.level_table,
        "history": session.history,
        "by_level": session.by_level,
        "diagnostics": group.total(session.diagnostics.sums),
        "loss_sum": group.total(session.loss_sum),
    }
    if group.first:
        save_checkpoint(session.folder, state)
    group.wait()


def restore(session: Session) -> int | None:
    """Load the checkpoint of the run folder; returns the step to go on with, or None where there is none.

    Raises:
        UserError: it is damaged, or no checkpoint of this run.
    """
    found = load_checkpoint(session.folder)
    if found is None:
        return None
    if found.warning:
        session.warn(found.warning)
    try:
        return _take_up(session, found.state)
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(
            f"{found.path} is no checkpoint of this run ({type(error).__name__}: {first_line(error)}); start the run "
            "anew"
        ) from error


def _take_up(session: Session, state: dict[str, Any]) -> int:
    session.module.load_state_dict(state["student"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.method.load_state_dict(state["method"])
    if session.average is not None:
        session.average.load_state_dict(state["average"])
    session.fabric.strategy.precision.load_state_dict(state["scaler"])
    if session.level is not None:
        session.level.load_state_dict(state["level"])
    session.level_table = None if state["level_table"] is None else state["level_table"].to(session.fabric.device)
    session.history, session.by_level = state["history"], state["by_level"]
    if session.group.first:  # the sums are those of all
        session.diagnostics.sums.copy_(state["diagnostics"])
        session.loss_sum = state["loss_sum"]
    return int(state["step"])
