"""``dlkd audit``: ask who has not seen the images, and write what came of it: table, contact sheet, predictions."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from dlkd.arrays import write_arrays
from dlkd.audit.folds import by_folds
from dlkd.audit.given import by_teacher
from dlkd.audit.heads import by_heads
from dlkd.audit.judged import SEEN, Judged
from dlkd.audit.options import AuditOptions
from dlkd.audit.scores import ACTIONS, RELABEL, label_posterior, margin, self_confidence, suggested_actions
from dlkd.audit.sheet import Sheet
from dlkd.data import FilePixels, Samples
from dlkd.errors import UserError
from dlkd.files import clean_temporaries, write_atomic, write_json
from dlkd.jobs.card import CONFIG, machine, plain
from dlkd.report.table import table_bytes
from dlkd.run_folder import (
    MARKER,
    busy_folder,
    check_outside,
    check_run_folder,
    forget_replaced,
    made_by,
    new_run_folder,
)

RESULTS, SHEET, PREDICTIONS = "audit.json", "audit.html", "predictions.npz"
WRITING = ("out", "overwrite", "table", "thumbnails", "thumbnail_side")
"""Options that only say what is written: an audit goes on with others."""


def audit(options: AuditOptions) -> dict[str, Any]:
    """Judge every label; returns the content of ``audit.json``.

    Raises:
        UserError: whatever the user can mend, in one line.
        Interrupted: told to stop; the same command goes on.
    """
    options.check()
    with _folder(options):
        if options.folds is None:
            judged = by_teacher(options)
        else:
            judged = by_heads(options) if options.heads_only else by_folds(options)
        for remark in judged.remarks:
            print(f"note: {remark}")
        columns = table_of(judged)
        found = _results(options, judged, columns)
        _write(options, judged, columns, found)
    _say(options, found)
    return found


@contextlib.contextmanager
def _folder(options: AuditOptions) -> Iterator[None]:
    """Work in ``--out``: a new folder, or that of the same audit."""
    out, text = options.out, _settings(options)
    inputs = {
        "data.root": options.data.root,
        "data.noise_file": options.data.noise_file,
        "teacher.weights": options.teacher.weights,
        "model.weights": options.model.weights,
    }
    check_outside(out, inputs)
    ours = made_by(out) == "audit"
    overwrite = options.overwrite or (ours and not (out / CONFIG).is_file())  # killed before it had begun
    if (out / MARKER).is_file() and not overwrite:
        before = (out / CONFIG).read_text(errors="replace") if (out / CONFIG).is_file() else ""
        if before != text:
            what = "another audit" if ours else "something else"
            raise UserError(f"{out} holds {what}; give --overwrite to begin anew, or another --out")
        with busy_folder(out):
            clean_temporaries(out)
            yield
            forget_replaced(out)
        return
    check_run_folder(out, overwrite=overwrite)
    card: dict[str, object] = {"command": "audit", **machine()}

    def begun() -> bool:
        kept = (f"folds/*/{MARKER}", "answers/*.npz", "features.npz", RESULTS)
        return any(next(out.glob(name), None) is not None for name in kept)

    with new_run_folder(out, overwrite=overwrite, card=card, begun=begun):
        write_atomic(out / CONFIG, text)
        yield


def _settings(options: AuditOptions) -> str:
    values = {key: value for key, value in plain(options).items() if key not in WRITING}
    return str(yaml.safe_dump(values, sort_keys=False))


def table_of(judged: Judged) -> dict[str, npt.NDArray[Any]]:
    """The columns of the table, ``[N]`` each."""
    samples, answers = judged.samples, judged.answers
    labels, names = samples.labels.numpy(), np.array(samples.class_names)
    teacher, probe = answers.teacher.argmax(axis=1), answers.probe.argmax(axis=1)
    posterior = label_posterior(answers.teacher, labels)
    actions, suggested = suggested_actions(posterior, labels)
    columns: dict[str, npt.NDArray[Any]] = {"id": samples.ids}
    if isinstance(samples.pixels, FilePixels):
        columns["path"] = np.array([samples.pixels.name(k) for k in range(len(samples))])
    columns |= {
        "seen_by_teacher": judged.seen,
        "given_label": names[labels],
        "teacher_label": names[teacher],
        "probe_label": names[probe],
        "distance": answers.distance,
        "self_confidence": self_confidence(answers.teacher, labels),
        "margin": margin(answers.teacher, labels),
        "score": self_confidence(posterior, labels),
        "action": np.array(ACTIONS)[actions],
        "suggested_label": names[suggested],
    }
    if (judged.folds >= 0).all():
        columns["fold"] = judged.folds
    return columns


def _results(options: AuditOptions, judged: Judged, columns: dict[str, npt.NDArray[Any]]) -> dict[str, Any]:
    labels = judged.samples.labels.numpy()
    other = columns["suggested_label"] != columns["given_label"]  # a label to look at may be the likeliest all the same
    pairs = Counter(
        zip(columns["given_label"][other].tolist(), columns["suggested_label"][other].tolist(), strict=True)
    )
    digest = hashlib.sha256(judged.samples.digest().encode() + labels.tobytes() + judged.answers.teacher.tobytes())
    return {
        "format": 1,
        "audit": digest.hexdigest()[:16],
        "images": len(labels),
        "classes": len(judged.samples.class_names),
        "warning": judged.warning,
        "seen_by_teacher": {name: int((columns["seen_by_teacher"] == name).sum()) for name in SEEN},
        "agreement": float(100 * (judged.answers.teacher.argmax(axis=1) == labels).mean()),
        "actions": {name: int((columns["action"] == name).sum()) for name in ACTIONS},
        "pairs": [{"given": a, "suggested": b, "images": n} for (a, b), n in pairs.most_common(20)],
        "settings": plain(options),
        **machine(),
    }


def _write(options: AuditOptions, judged: Judged, columns: dict[str, npt.NDArray[Any]], found: dict[str, Any]) -> None:
    out, samples, answers = options.out, judged.samples, judged.answers
    write_atomic(out / f"audit.{options.table}", table_bytes(columns, options.table))
    labels = {"labels": samples.labels.numpy(), "class_names": np.array(samples.class_names)}
    write_arrays(out / PREDICTIONS, labels | answers._asdict())
    paths = None
    if isinstance(samples.pixels, FilePixels):
        paths = [_beside(path, out) for path in samples.pixels.paths]
    numbers = {name: columns[name] for name in ("score", "self_confidence", "margin", "distance")}
    worst = np.argsort(columns["score"], kind="stable")[: options.thumbnails]
    actions = np.array([ACTIONS.index(action) for action in columns["action"].tolist()], np.int64)
    number = {name: k for k, name in enumerate(samples.class_names)}
    suggested = np.array([number[name] for name in columns["suggested_label"].tolist()], np.int64)
    sheet = Sheet(
        title="Audit",
        lead=f"{found['images']} training images; {found['actions']['relabel']} labels for which one other "
        f"class is likelier than all others, {found['actions']['look']} more that are likelier wrong than right.",
        warning=found["warning"],
        key=found["audit"],
        class_names=samples.class_names,
        ids=samples.ids,
        given=samples.labels.numpy(),
        suggested=suggested,
        teacher=answers.teacher.argmax(axis=1),
        probe=answers.probe.argmax(axis=1),
        numbers=numbers,
        action=actions,
        actions=ACTIONS,
        paths=paths,
        thumbnails={int(k): thumbnail(samples, int(k), options.thumbnail_side) for k in worst},
    )
    write_atomic(out / SHEET, sheet.render())
    write_json(out / RESULTS, found)


def _beside(path: Path, folder: Path) -> str:
    """``path`` from ``folder``; empty where nothing leads there: on Windows, to another drive."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return ""


def thumbnail(samples: Samples, position: int, side: int) -> bytes:
    """A small WebP picture of one image, for people."""
    image = samples.pixels.load(position)
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()


def _say(options: AuditOptions, found: dict[str, Any]) -> None:
    if found["warning"]:
        print(f"warning: {found['warning']}")
    counts = found["actions"]
    print(
        f"{found['images']} labels: {counts['keep']} to keep, {counts['look']} likelier wrong than right, "
        f"{counts[ACTIONS[RELABEL]]} for which one other class is likelier than all others"
    )
    print(f"Look at them: {options.out / SHEET}; the table: {options.out / f'audit.{options.table}'}")
    print(f"Then: dlkd clean {options.out} --out cleaned.csv, and dlkd distill --data.cleaned cleaned.csv")
