"""``dlkd train`` and ``dlkd distill``: setup → preflight → fit → results."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from dlkd.errors import UserError, first_line, printable
from dlkd.files import clean_temporaries, write_atomic
from dlkd.jobs.as_begun import as_begun, check_labels, check_unchanged, read_json, save_labels
from dlkd.jobs.baseline import baseline_folder, baseline_options, check_baseline
from dlkd.jobs.card import CONFIG, config_text, run_card
from dlkd.jobs.results import finish
from dlkd.preflight import Preflight, preflight
from dlkd.quiet import is_quiet
from dlkd.run_folder import (
    MARKER,
    RESULTS,
    busy_folder,
    check_outside,
    check_run_folder,
    forget_replaced,
    new_run_folder,
)
from dlkd.store.shards import SETTINGS, locked
from dlkd.train.auto import said
from dlkd.train.checkpoint import CURRENT
from dlkd.train.fit import fit
from dlkd.train.interrupt import Interrupted
from dlkd.train.launch import Launch
from dlkd.train.lessons import check_stores, release_teacher, stores
from dlkd.train.memory import DoesNotFit
from dlkd.train.options import DistillOptions, RunOptions, TrainOptions
from dlkd.train.replay import BAD_BATCH
from dlkd.train.session import Session
from dlkd.train.setup import make_session


def run(options: RunOptions, *, quiet: bool = False) -> dict[str, Any]:
    """Train or distil as ``options`` say; returns the content of ``results.json``.

    Raises:
        UserError: whatever the user can mend, in one line. Before the first checkpoint, no folder is left behind.
        Interrupted: the run was told to stop and can be resumed.
    """
    options.check()
    command = "distill" if isinstance(options, DistillOptions) else "train"
    folder, first = options.out, Launch.found().rank == 0
    if options.resume:
        options = as_begun(options, command)
    if isinstance(options, DistillOptions) and options.with_baseline:
        check_baseline(options)
        check_outside(baseline_folder(folder), _inputs(options))
    if options.resume:
        if (folder / RESULTS).is_file():
            if first and not quiet:
                print(f"{folder} is finished; see {folder / RESULTS}")
            return read_json(folder / RESULTS)
        session = make_session(options, quiet=quiet)  # the processes meet, before one of them may have to give up
        _train_baseline(session, options)
        with busy_folder(folder) if first else contextlib.nullcontext():
            if first:
                clean_temporaries(folder)
            card = check_unchanged(session, command)
            # A store may have been built for more views, or fewer, since the run began.
            session.steps = replace(session.steps, views=card["data"].get("shown_views"))
            check_labels(session)
            results = _fit(session, command)
            forget_replaced(folder)
            return results
    # A run that broke before its first checkpoint left nothing but the batch that broke it.
    broke = (folder / BAD_BATCH).exists() and not (folder / CURRENT).exists()
    overwrite = options.overwrite or broke
    check_run_folder(folder, overwrite=overwrite)  # before the processes meet, and the first makes the folder
    check_outside(folder, _inputs(options))
    session, found = _ready(options, quiet)
    _train_baseline(session, options)
    if not first:
        return _fit(session, command)
    card = {**run_card(session, command), "preflight": found.to_dict()}

    # Before the first checkpoint there is nothing to go on with, and the same command should work once a cause of
    # failure is mended; a batch that was kept to be looked at stays.
    def begun() -> bool:
        return (folder / CURRENT).exists() or (folder / BAD_BATCH).exists()

    with new_run_folder(folder, overwrite=overwrite, card=card, begun=begun):
        save_labels(session)
        write_atomic(folder / CONFIG, config_text(session.options))
        return _fit(session, command)


def _train_baseline(session: Session, options: RunOptions) -> None:
    """The student alone, before the distilled one whose results speak of it; from where it was stopped."""
    if not isinstance(options, DistillOptions) or not options.with_baseline:
        return
    alone = baseline_options(session, options)
    session.say(f"the student alone, in {alone.out} …")
    old = not alone.overwrite and (alone.out / CONFIG).is_file()
    try:
        results = run(alone, quiet=True) if alone.overwrite else run_or_go_on(alone)
    except Interrupted as error:
        raise Interrupted(f"the student alone, in {alone.out}, was stopped; give the same command again") from error
    except UserError as error:
        advice = "; delete this folder to train it anew" if old else ""
        raise UserError(f"the student alone, in {alone.out}: {error}{advice}") from error
    session.say(f"the student alone: {results[alone.score_on]['accuracy']:.2f} %")


def _ready(options: RunOptions, quiet: bool) -> tuple[Session, Preflight]:
    """A session that was looked at. A batch that was left to us is cut to what fits into memory, and accumulated."""
    session = make_session(options, quiet=quiet)
    try:
        return session, _look(session, options)
    except DoesNotFit as error:
        # Of several processes the others may have found that it fits.
        if options.optim.batch_size != "auto" or options.optim.accumulate > 1 or session.group.size > 1:
            raise
        smaller = replace(options.optim, batch_size=error.batch_size, accumulate=error.accumulate)
        remark = f"{first_line(error)}: this is done"
    del session
    session = make_session(replace(options, optim=smaller), quiet=quiet)
    session.remarks.append(remark)
    return session, _look(session, options)


def run_or_go_on(options: RunOptions) -> dict[str, Any]:
    """:func:`run` without a word, from where an earlier process stopped, whether it had begun or not."""
    begun = (options.out / CONFIG).is_file()
    # Without its options a run had not begun, and nothing of it is lost.
    broken = not begun and (options.out / MARKER).is_file()
    return run(replace(options, resume=begun, overwrite=broken), quiet=True)


def _fit(session: Session, command: str) -> dict[str, Any]:
    """Train; the first of several processes writes, and ends with the figures.

    Raises:
        UserError: another process ended, for example.
    """
    options, group = session.options, session.group
    with group.in_one_line():
        group.wait()
    if isinstance(options, DistillOptions) and options.store is not None:
        if group.first and not (options.store / SETTINGS).exists():
            save_store_settings(session, options)
        check_stores(session)
        release_teacher(session)
    fit(session)
    with group.in_one_line():
        group.part()
    return finish(session, command) if group.first else {}


def save_store_settings(session: Session, options: DistillOptions) -> None:
    """Keep beside a store the options that make it again, the form that it really has among them."""
    manifest = stores(session)[0].manifest
    form = replace(options.storage, **asdict(manifest.storage), probe_logits=manifest.probe_logits)
    assert options.store is not None
    with locked(options.store, "settings", wait=True):
        clean_temporaries(options.store, SETTINGS)
        write_atomic(options.store / SETTINGS, config_text(replace(options, storage=form)))


def _inputs(options: RunOptions) -> dict[str, Path | Sequence[Path | None] | None]:
    """What a run reads, by the name of its option."""
    if isinstance(options, TrainOptions):
        return {
            "data.root": options.data.root,
            "data.noise_file": options.data.noise_file,
            "data.cleaned": options.data.cleaned,
            "model.weights": options.model.weights,
        }
    assert isinstance(options, DistillOptions)
    return {
        "data.root": options.data.root,
        "data.noise_file": options.data.noise_file,
        "data.cleaned": options.data.cleaned,
        "data.unlabelled": options.data.unlabelled,
        "student.weights": options.student.weights,
        "teacher.weights": options.teacher.weights,
        "teacher.classes": options.teacher.classes,
        "store": options.store,
    }


def _look(session: Session, asked: RunOptions) -> Preflight:
    options = session.options
    for remark in session.remarks:
        session.say(f"note: {remark}")
    if by_itself := said(session, asked):
        session.say(f"auto: {by_itself}")
    found = preflight(session)
    if is_quiet():  # of the table, what the user may want to mend
        for finding in (f for f in found.findings if f.verdict == "note"):
            session.say(f"note: {printable(f'{finding.what}: {finding.value}; {finding.advice}')}")
    elif not session.quiet:
        found.show(Console())
    if found.stops and not options.force:
        reasons = "; ".join(f"{f.what}: {f.value}, {f.advice}" for f in found.stops)
        raise UserError(f"the preflight says stop ({reasons}); give --force to go on all the same")
    return found
