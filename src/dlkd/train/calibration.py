"""The reference of the difficulty level: one pass over training views."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dlkd.data import Batch, ViewFamily
from dlkd.train.group import Group
from dlkd.train.interrupt import StopRequest
from dlkd.train.options import DistillOptions
from dlkd.train.session import Session
from dlkd.train.teacher_options import ProbeOptions

TOGETHER = 256
"""Images that are looked at in one go, where it makes no difference."""


def calibrate(session: Session, stop: StopRequest | None = None) -> bool:
    """One pass over training views: sets the reference of the level, and the table of averaged levels.

    Returns:
        False where it was stopped before its end.

    Raises:
        UserError: teacher or probe gave logits that are not finite.
    """
    options = session.options
    if session.level is None or session.lessons is None or not isinstance(options, DistillOptions):
        return True
    session.say("calibrating the difficulty level on training views …")
    at_once = session.steps.batch_size // options.optim.accumulate
    found = reference_distances(
        partial(_difficulty_of, session), session.family, options.probe, at_once, session.group, stop
    )
    if found is None:
        return False
    distances = found.to(session.fabric.device)
    session.level.calibrate(distances.flatten())
    if options.probe.level_views:
        session.level_table = session.level.over_views(distances)
    return True


def _difficulty_of(session: Session, batch: Batch) -> Tensor:
    assert session.lessons is not None
    batch = batch.to(session.fabric.device)
    ids = session.family.samples.ids[batch.positions.cpu().numpy()]
    return session.difficulty(session.lessons(batch), batch.target, ids)


def reference_distances(
    difficulty: Callable[[Batch], Tensor],
    family: ViewFamily,
    probe: ProbeOptions,
    batch_size: int,
    group: Group | None = None,
    stop: StopRequest | None = None,
) -> Tensor | None:
    """The difficulties ``[V, N]``, on the CPU, that a level is calibrated on; None where it was stopped before its end.

    V = ``level_views`` views of all images, or one of at most ``reference`` of them.

    Args:
        difficulty: of a batch of views, ``[B]``.
        family: the training views.
        probe: how many are looked at.
        batch_size: samples that training shows the teacher at once.
        group: processes that share the work.
        stop: has the user had enough?
    """
    n = len(family.samples) if probe.level_views else min(len(family.samples), probe.reference)
    # By statistics of the batch a distance depends on how many images are together.
    together = batch_size if probe.norm == "batch" else TOGETHER
    rows = []
    for view in range(max(1, probe.level_views)):
        # Whole pairs of one view number: mixed images are part of the family.
        order = family.order(view)
        chosen = order[:n] if n < order.size else np.arange(order.size)
        parts = np.split(chosen, range(together, len(chosen), together))
        found = []
        for part in parts if group is None else group.share(parts):
            found.append(difficulty(family.batch(part, np.full_like(part, view))).cpu())
            if stop and (group is None or group.size == 1):  # of several, nobody must leave the others alone
                return None
        rows.append(torch.cat(found if group is None else group.collect(found)))
    return torch.stack(rows)
