"""Teachers of the parts: each is trained on the given labels of all images but its own part, and asked about that."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dlkd.audit.answers import Answers
from dlkd.audit.given import answers_about, teaching_of
from dlkd.audit.judged import Judged, everything
from dlkd.audit.options import AuditOptions
from dlkd.data import DataSet, load_data
from dlkd.data.samples import Indices
from dlkd.errors import UserError
from dlkd.files import write_atomic
from dlkd.jobs.run import run_or_go_on
from dlkd.train.interrupt import Interrupted
from dlkd.train.teach import label_digest
from dlkd.train.teacher_options import TeacherOptions

ABOUT = "about.txt"
"""Names the images and labels that the answers beside it are about."""


def by_folds(options: AuditOptions) -> Judged:
    """Train and ask the teachers of all parts, from where an earlier process stopped.

    Raises:
        Interrupted: told to stop; the same call goes on.
        UserError: data that cannot be cut into parts, other data than that process had, or what ``dlkd train`` would
            not take.
    """
    assert options.folds is not None
    whole = everything(options.data)
    (options.out / "answers").mkdir(parents=True, exist_ok=True)
    _check_same_data(options.out / "answers" / ABOUT, whole)
    return out_of_fold(whole, [_part(options, k) for k in range(options.folds)])


def _check_same_data(file: Path, whole: DataSet) -> None:
    """The teachers of all parts must have learnt from the same images and labels."""
    now = hashlib.sha256((whole.train.digest() + label_digest(whole.train)).encode()).hexdigest()
    if not file.is_file():
        write_atomic(file, now)
    elif file.read_text(errors="replace") != now:
        raise UserError(
            f"the images or labels are not those that the audit in {file.parents[1]} began with; give --overwrite to "
            "begin anew, or another --out"
        )


def out_of_fold(whole: DataSet, parts: list[Answers]) -> Judged:
    """The answers about all parts, each by who has not seen it."""
    answers = Answers.joined(parts)
    folds = np.concatenate([np.full(part.ids.size, k) for k, part in enumerate(parts)])
    folds = folds[np.argsort(np.concatenate([part.ids for part in parts]))]
    seen = np.full(answers.ids.size, "no")
    return Judged(whole.train, answers, seen, folds, oracle=False, remarks=whole.remarks)


def _part(options: AuditOptions, number: int) -> Answers:
    """Of one part."""
    file = options.out / "answers" / f"{number}.npz"
    if (kept := Answers.load(file)) is not None:
        return kept
    asked = options.fold(number)
    data = load_data(asked.data)
    try:
        run_or_go_on(asked)
    except Interrupted as error:
        raise Interrupted("stopped; the same command goes on where it was") from error
    teaching, family, size = teaching_of(options, TeacherOptions(weights=asked.out), asked.data, data)
    held_out = data.part("held_out")
    answers = answers_about(options, teaching, family, held_out, size)
    answers.save(file)
    say_agreement(number, options.folds, answers, held_out.labels.numpy())
    return answers


def say_agreement(number: int, folds: int | None, answers: Answers, labels: Indices) -> None:
    """A line for the user: how far the teacher of a part gets on it."""
    right = 100 * (answers.teacher.argmax(axis=1) == labels).mean()
    print(f"part {number + 1} of {folds}: its teacher agrees with {right:.1f} % of the given labels", flush=True)
