"""What a run has come to, as a checkpoint: all that the next step depends on."""

from __future__ import annotations

from typing import Any

from dlkd.errors import UserError, first_line
from dlkd.train.checkpoint import load_checkpoint, save_checkpoint
from dlkd.train.session import Session


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
