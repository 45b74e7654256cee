"""``dlkd train`` and ``dlkd distill``: setup → preflight → fit → results."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from dlkd.arrays import read_arrays, write_arrays
from dlkd.data import DataSet
from dlkd.errors import UserError, first_line, printable
from dlkd.files import (
    MARKER,
    RESULTS,
    busy_folder,
    check_outside,
    check_run_folder,
    clean_temporaries,
    forget_replaced,
    new_run_folder,
    write_atomic,
)
from dlkd.jobs.baseline import baseline_folder, baseline_options, check_baseline
from dlkd.jobs.card import CONFIG, plain, run_card
from dlkd.jobs.results import finish
from dlkd.preflight import Preflight, preflight
from dlkd.quiet import is_quiet
from dlkd.store.shards import SETTINGS, locked
from dlkd.train.auto import as_recorded, said
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

LABELS = "labels.npz"
INVOCATION = ("out", "resume", "overwrite", "force", "with_baseline")
"""Options of a command, and not of the run that it makes."""


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
        options = _as_begun(options, command)
    if isinstance(options, DistillOptions) and options.with_baseline:
        check_baseline(options)
        check_outside(baseline_folder(folder), _inputs(options))
    if options.resume:
        if (folder / RESULTS).is_file():
            if first and not quiet:
                print(f"{folder} is finished; see {folder / RESULTS}")
            return _read_json(folder / RESULTS)
        session = make_session(options, quiet=quiet)  # the processes meet, before one of them may have to give up
        _train_baseline(session, options)
        with busy_folder(folder) if first else contextlib.nullcontext():
            if first:
                clean_temporaries(folder)
            card = _check_unchanged(session, command)
            # A store may have been built for more views, or fewer, since the run began.
            session.steps = replace(session.steps, views=card["data"].get("shown_views"))
            _check_labels(session)
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
        _save_labels(session)
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


def _as_begun(options: RunOptions, command: str) -> RunOptions:
    """Options of a run that goes on, with what its folder alone knows: what auto came to, and a baseline to be had."""
    config = resumable_config(options.out, command)
    options = as_recorded(options, _read_page(config))
    _check_same_options(options, config)
    settings = _read_json(options.out / MARKER).get("settings")
    if isinstance(options, DistillOptions) and isinstance(settings, dict) and settings.get("with_baseline") is True:
        return replace(options, with_baseline=True)
    return options


def resumable_config(folder: Path, command: str) -> Path:
    """The options of the run in ``folder``.

    Raises:
        UserError: there is no run of ``command`` that can be gone on with.
    """
    if not (folder / MARKER).is_file():
        raise UserError(f"expected a run to resume at --out {folder}, but there is none; leave --resume out")
    found = _read_json(folder / MARKER).get("command")
    if found != command:
        raise UserError(f"{folder} is a run of dlkd {found}, not of dlkd {command}; give another --out")
    if not (folder / CONFIG).is_file():
        raise UserError(f"the run in {folder} was stopped before it began; start it anew with --overwrite")
    return folder / CONFIG


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


def config_text(options: RunOptions) -> str:
    """The resolved options as a recipe: ``dlkd distill --config FILE --out NEW`` repeats the run."""
    values = {k: v for k, v in plain(options).items() if k not in INVOCATION}
    return str(yaml.safe_dump(values, sort_keys=False))


def _labels(data: DataSet) -> dict[str, Any]:
    """Labels as given and, where some are wrong, the true ones, which are wrong, and who became whom."""
    parts = {"train": data.train} | ({} if data.held_out is None else {"held_out": data.held_out})
    arrays: dict[str, Any] = {f"{name}_ids": s.ids for name, s in parts.items()}
    arrays |= {f"{name}_labels": s.labels.numpy() for name, s in parts.items()}
    if data.train.weights is not None:
        arrays["train_weights"] = data.train.weights.numpy()
    if data.noise is not None:
        arrays |= {f"{name}_clean": data.clean_of(s).numpy() for name, s in parts.items()}
        arrays |= {f"{name}_wrong": s.wrong for name, s in parts.items()}
        arrays["transition"] = data.noise.transition
    return arrays


def _save_labels(session: Session) -> None:
    write_arrays(session.folder / LABELS, _labels(session.data), compressed=True)


def _check_labels(session: Session) -> None:
    """A resumed run must have the labels that are kept beside it, held-out ones too; lost ones are written anew."""
    file, now = session.folder / LABELS, _labels(session.data)
    try:
        before = read_arrays(file)
    except ValueError:
        before = {}
    if any(name in now and not np.array_equal(now[name], value) for name, value in before.items()):
        raise UserError(f"the labels are not those in {file}, which the run began with; start a new run")
    if before.keys() != now.keys() and session.group.first:
        _save_labels(session)
        session.warn(f"{LABELS} was lost, damaged or incomplete, and has been written anew")


def _read_page(file: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(file.read_text()))
    except Exception as error:  # PyYAML raises AttributeError, KeyError and IndexError for tags that do not fit
        raise UserError(f"{file} is damaged; start the run anew with --overwrite") from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged; start the run anew with --overwrite") from error


def _check_same_options(options: RunOptions, config: Path) -> None:
    """A run is resumed with its own settings; another value is a mistake."""
    before, now = _read_page(config), yaml.safe_load(config_text(options))
    for key in _differences(before, now):
        raise UserError(f"a run is resumed with its own settings, but --{key} is another now; start a new run for that")


def _differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in _differences(a.get(k), b.get(k), f"{prefix}.{k}" if prefix else str(k))]
    return [] if a == b else [prefix]


def _check_unchanged(session: Session, command: str) -> dict[str, Any]:
    """A resumed run must go on with the data and teacher that it began with; returns what was known then."""
    before = _read_json(session.folder / MARKER)
    sound = isinstance(before.get("data"), dict) and isinstance(before.get("teacher"), dict | None)
    if not sound or "threads" not in before:
        raise UserError(f"{session.folder / MARKER} is damaged; start the run anew with --overwrite")
    now = json.loads(json.dumps(run_card(session, command)))
    for key, what in (("images", "training images"), ("labels", "labels"), ("views", "views")):
        if before["data"].get(key) != now["data"][key]:
            raise UserError(f"the {what} are not those that the run in {session.folder} began with; start a new run")
    if (before.get("teacher") or {}).get("teacher") != (now.get("teacher") or {}).get("teacher"):
        raise UserError(f"the teacher is not the one that the run in {session.folder} began with; start a new run")
    if before["threads"] != now["threads"]:
        session.warn(f"{now['threads']} threads instead of {before['threads']}: the same run, but not to the last bit")
    return before
