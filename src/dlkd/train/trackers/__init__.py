"""Weights & Biases and MLflow: the figures of every epoch, and the files of the run at its end.

Both are spoken to through Fabric's interface of a logger. Each is told what it has not heard yet, so one that was away
for a while, or a run that was killed and resumed, gets every epoch once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from dlkd.errors import first_line, printable
from dlkd.train.interrupt import Interrupted
from dlkd.train.session import Session
from dlkd.train.trackers.ml_flow import MLflowTracker
from dlkd.train.trackers.tracker import Row, Tracker
from dlkd.train.trackers.weights_and_biases import WandbTracker

__all__ = ["end_tracking", "track", "tracked"]

QUIET = {
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "120",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
"""Nothing is reported about the user, and nobody is waited for all night; what the environment says wins."""
KINDS: dict[str, type[Tracker]] = {kind.key: kind for kind in (WandbTracker, MLflowTracker)}


@contextmanager
def tracked(session: Session) -> Iterator[None]:
    """The trackers that the options name hear of the block. They stay open for :func:`end_tracking`, unless it fails.

    Only the first of several processes has any.
    """
    if session.options.engine.trackers and session.group.first:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
    for name in session.options.engine.trackers if session.group.first else ():
        settings = json.loads(json.dumps(asdict(session.options), default=str))
        tracker = KINDS[name](session.folder, settings)
        session.fabric.loggers.append(tracker)
        with _forgiving(session, tracker):
            tracker.begin([_figures(row) for row in session.history])
    try:
        yield
    except BaseException as error:
        for tracker in _of(session):
            with _forgiving(session, tracker):
                tracker.finalize("stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed")
        session.fabric.loggers.clear()
        raise


def track(session: Session, row: Row) -> None:
    """Tell the figures of an epoch."""
    for tracker in _of(session):
        with _forgiving(session, tracker):
            tracker.log_metrics(_figures(row), row["step"])


def end_tracking(session: Session, files: Sequence[Path]) -> None:
    """Hand over the files of a finished run that are there, and close; one that was lost is tried once more."""
    for tracker in (each for each in session.fabric.loggers if isinstance(each, Tracker)):
        again, tracker.lost = tracker.lost, False
        with _forgiving(session, tracker):
            if again:
                tracker.revive()
                tracker.begin([_figures(row) for row in session.history])
            tracker.keep([file for file in files if file.is_file()])
            tracker.finalize("success")
            if said := tracker.where():
                session.say(said)
    session.fabric.loggers.clear()


def _of(session: Session) -> list[Tracker]:
    return [each for each in session.fabric.loggers if isinstance(each, Tracker) and not each.lost]


@contextmanager
def _forgiving(session: Session, tracker: Tracker) -> Iterator[None]:
    """A tracker that fails is left alone, and the run goes on."""
    try:
        yield
    except Exception as error:  # of any kind that two libraries and a network know
        tracker.lost = True
        reason = printable(first_line(error))[:200]
        session.warn(
            f"{tracker.title} is not told any more ({reason}); the run goes on, its figures are in metrics.csv"
        )


def _figures(row: Row) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if value is not None}
