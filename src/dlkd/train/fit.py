"""The loop: one for every method, and nothing in it that a method would have to change."""

from __future__ import annotations

import contextlib

import numpy as np
import torch

from dlkd.data import Batch, Samples
from dlkd.evaluate import accuracy, logits_of
from dlkd.train.calibration import calibrate
from dlkd.train.diagnostics import Diagnostics
from dlkd.train.interrupt import Interrupted, StopRequest
from dlkd.train.log import BY_LEVEL, METRICS, Board, Screen, Waits, write_csv
from dlkd.train.memory import is_out_of_memory, too_large
from dlkd.train.optim import learning_rate, set_learning_rate
from dlkd.train.session import Session
from dlkd.train.state import restore, save
from dlkd.train.step import train_step
from dlkd.train.trackers import track, tracked

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
