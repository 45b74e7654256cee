"""A run that goes on: with its own options, data, labels and teacher, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dlkd.arrays import read_arrays, write_arrays
from dlkd.data import DataSet
from dlkd.errors import UserError
from dlkd.jobs.card import CONFIG, config_text, run_card
from dlkd.run_folder import MARKER
from dlkd.train.auto import as_recorded
from dlkd.train.options import DistillOptions, RunOptions
from dlkd.train.session import Session

LABELS = "labels.npz"
"""The labels that a run learnt from, in its folder."""


def as_begun(options: RunOptions, command: str) -> RunOptions:
    """Options of a run that goes on, with what its folder alone knows: what auto came to, and a baseline to be had."""
    config = resumable_config(options.out, command)
    options = as_recorded(options, _read_page(config))
    _check_same_options(options, config)
    settings = read_json(options.out / MARKER).get("settings")
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
    found = read_json(folder / MARKER).get("command")
    if found != command:
        raise UserError(f"{folder} is a run of dlkd {found}, not of dlkd {command}; give another --out")
    if not (folder / CONFIG).is_file():
        raise UserError(f"the run in {folder} was stopped before it began; start it anew with --overwrite")
    return folder / CONFIG


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


def save_labels(session: Session) -> None:
    """Keep the labels beside the run."""
    write_arrays(session.folder / LABELS, _labels(session.data), compressed=True)


def check_labels(session: Session) -> None:
    """A resumed run must have the labels that are kept beside it, held-out ones too; lost ones are written anew."""
    file, now = session.folder / LABELS, _labels(session.data)
    try:
        before = read_arrays(file)
    except ValueError:
        before = {}
    if any(name in now and not np.array_equal(now[name], value) for name, value in before.items()):
        raise UserError(f"the labels are not those in {file}, which the run began with; start a new run")
    if before.keys() != now.keys() and session.group.first:
        save_labels(session)
        session.warn(f"{LABELS} was lost, damaged or incomplete, and has been written anew")


def _read_page(file: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(file.read_text()))
    except Exception as error:  # PyYAML raises AttributeError, KeyError and IndexError for tags that do not fit
        raise UserError(f"{file} is damaged; start the run anew with --overwrite") from error


def read_json(file: Path, mend: str = "start the run anew with --overwrite") -> dict[str, Any]:
    """What a run left; UserError where it is damaged, with what to do then."""
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged; {mend}") from error


def _check_same_options(options: RunOptions, config: Path) -> None:
    """A run is resumed with its own settings; another value is a mistake."""
    before, now = _read_page(config), yaml.safe_load(config_text(options))
    for key in _differences(before, now):
        raise UserError(f"a run is resumed with its own settings, but --{key} is another now; start a new run for that")


def _differences(a: Any, b: Any, prefix: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for k in {**a, **b} for d in _differences(a.get(k), b.get(k), f"{prefix}.{k}" if prefix else str(k))]
    return [] if a == b else [prefix]


def check_unchanged(session: Session, command: str) -> dict[str, Any]:
    """A resumed run must go on with the data and teacher that it began with; returns what was known then."""
    before = read_json(session.folder / MARKER)
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
