"""``dlkd train`` and ``dlkd distill``: setup → preflight → fit → results."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from dlkd.errors import UserError
from dlkd.files import MARKER, check_run_folder, new_run_folder, write_atomic
from dlkd.jobs.card import plain, run_card
from dlkd.jobs.results import finish
from dlkd.preflight import preflight
from dlkd.train.checkpoint import clean_temporaries, load_checkpoint
from dlkd.train.fit import fit
from dlkd.train.options import DistillOptions, RunOptions
from dlkd.train.session import Session, calibrate, make_session

CONFIG = "config.yaml"
RESULTS = "results.json"


def run(options: RunOptions, *, quiet: bool = False) -> dict[str, Any]:
    """Train or distil as ``options`` say; returns the content of ``results.json``.

    Raises:
        UserError: whatever the user can mend, in one line.
        Interrupted: the run was told to stop and can be resumed.
    """
    options.check()
    folder = options.out
    if options.resume:
        if not (folder / MARKER).is_file():
            raise UserError(f"expected a run to resume at --out {folder}, but there is none; leave --resume out")
        if (folder / RESULTS).is_file():
            print(f"{folder} is finished; see {folder / RESULTS}")
            return dict(json.loads((folder / RESULTS).read_text()))
    else:
        check_run_folder(folder, overwrite=options.overwrite)
    session = make_session(options, quiet=quiet)
    command = "distill" if isinstance(options, DistillOptions) else "train"
    if options.resume:
        clean_temporaries(folder)
        _check_unchanged(session, command)
    else:
        _start(session, command)
    if isinstance(options, DistillOptions) and load_checkpoint(folder) is None:
        session.say("calibrating the difficulty level on training views …") if session.level else None
        calibrate(session, options)
    fit(session)
    return finish(session, command)


def _start(session: Session, command: str) -> None:
    options = session.options
    for remark in session.remarks:
        session.say(f"note: {remark}")
    found = preflight(session)
    if not session.quiet:
        found.show(Console())
    if found.stops and not options.force:
        reasons = "; ".join(f"{f.what}: {f.value}, {f.advice}" for f in found.stops)
        raise UserError(f"the preflight says stop ({reasons}); give --force to go on all the same")
    new_run_folder(
        options.out, overwrite=options.overwrite, card={**run_card(session, command), "preflight": found.to_dict()}
    )
    write_atomic(options.out / CONFIG, config_text(options))
    _save_labels(session)


def config_text(options: RunOptions) -> str:
    """The resolved options as a recipe: ``dlkd distill --config FILE --out NEW`` repeats the run."""
    values = {k: v for k, v in plain(options).items() if k not in ("out", "resume", "overwrite", "force")}
    return str(yaml.safe_dump(values, sort_keys=False))


def _save_labels(session: Session) -> None:
    """Labels as given and, where they were made wrong on purpose, which ones are."""
    data = session.data
    parts = {"train": data.train} | ({} if data.held_out is None else {"held_out": data.held_out})
    arrays: dict[str, Any] = {f"{name}_ids": s.ids for name, s in parts.items()}
    arrays |= {f"{name}_labels": s.labels.numpy() for name, s in parts.items()}
    arrays |= {f"{name}_wrong": s.wrong for name, s in parts.items() if s.wrong is not None}
    np.savez_compressed(session.folder / "labels.npz", **arrays)


def _check_unchanged(session: Session, command: str) -> None:
    """A resumed run must go on with the data and teacher that it began with."""
    before = json.loads((session.folder / MARKER).read_text())
    now = json.loads(json.dumps(run_card(session, command)))
    for key, what in (("images", "training images"), ("labels", "labels"), ("views", "views")):
        if before["data"][key] != now["data"][key]:
            raise UserError(f"the {what} are not those that the run in {session.folder} began with; start a new run")
    if before.get("teacher", {}).get("teacher") != now.get("teacher", {}).get("teacher"):
        raise UserError(f"the teacher is not the one that the run in {session.folder} began with; start a new run")
    if before["threads"] != now["threads"]:
        session.warn(f"{now['threads']} threads instead of {before['threads']}: the same run, but not to the last bit")
