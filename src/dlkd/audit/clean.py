"""``dlkd clean``: out of an audit, and of what a person decided, labels and weights that ``dlkd distill`` takes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from dlkd.arrays import read_arrays
from dlkd.audit.job import PREDICTIONS, RESULTS
from dlkd.audit.scores import KEEP, RELABEL, label_posterior, self_confidence, suggested_actions
from dlkd.data.sources.table import read_table
from dlkd.errors import UserError, first_line
from dlkd.files import check_new_file, write_atomic
from dlkd.regular import read_regular
from dlkd.report.table import check_table, table_bytes

Policy = Literal["weights", "relabel", "unlabel", "remove", "none"]
MARKS = ("right", "wrong", "unsure")
LEAST_WEIGHT = 1e-3
"""Of a label: with less, an image counts for nothing and may as well be left out."""
LARGEST = 1 << 28
"""Bytes of a file of decisions."""


@dataclass(frozen=True)
class CleanOptions:
    """Make a table for --data.cleaned out of an audit.

    Attributes:
        audit: folder of an audit.
        out: table to write, .csv or .parquet.
        policy: what becomes of labels that nobody looked at: weights (all stay, and count as they are probably right);
            or of suspicious ones: relabel (those for which one other class is likelier than all others get that),
            unlabel (taken away: the teacher alone teaches them), remove (the images are left out); or none.
        most: at most this share of the labels of each class is changed, taken away or left out, the most suspicious
            first: of a class that the teacher does not know, it would not believe a single label.
        decisions: file that the contact sheet exports. Labels marked right are kept, wrong ones replaced by the class
            that was chosen, or taken away where none was; unsure ones are taken away. They win over the policy.
        issues: the label issues of cleanlab instead of the audit's own (get_issues("label") of a Datalab as .csv).
        overwrite: replace an earlier table.
    """

    audit: Path
    out: Path = Path("cleaned.csv")
    policy: Policy = "weights"
    most: float = 0.5
    decisions: Path | None = None
    issues: Path | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raise UserError where a value makes no sense."""
        if self.policy not in get_args(Policy):
            raise UserError(f"expected --policy out of {', '.join(get_args(Policy))}, but got {self.policy}")
        if not 0 <= self.most <= 1:
            raise UserError(f"expected --most to be in [0, 1], but got {self.most}")
        if self.out.suffix not in (".csv", ".parquet"):
            raise UserError(f"expected --out to end with .csv or .parquet, but got {self.out}")
        check_table(self.out.suffix[1:])
        check_new_file(self.out, overwrite=self.overwrite)
        if not (self.audit / RESULTS).is_file():
            raise UserError(f"expected a finished audit in {self.audit}, but there is none; run dlkd audit first")


class Audited(NamedTuple):
    """What an audit left for those who come after it."""

    key: str
    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    teacher: npt.NDArray[np.floating]
    probe: npt.NDArray[np.floating]
    class_names: tuple[str, ...]
    paths: list[str] | None


class _Verdicts(NamedTuple):
    """About each image: is its label suspicious, what would be better (−1 unknown), and how much does it count?"""

    suspicious: npt.NDArray[np.bool_]
    sure: npt.NDArray[np.bool_]
    better: npt.NDArray[np.int64]
    weights: npt.NDArray[np.floating]


def clean(options: CleanOptions) -> dict[str, npt.NDArray[Any]]:
    """Write the table; returns its columns.

    Raises:
        UserError: whatever the user can mend, in one line.
    """
    options.check()
    audited = read_audit(options.audit)
    verdicts = _of_audit(audited) if options.issues is None else _of_cleanlab(options.issues, audited)
    # A policy that changes nothing of a label must not count it among the most that it may change.
    relabel = options.policy == "relabel"
    touched = verdicts.suspicious & verdicts.sure if relabel else verdicts.suspicious
    worst = _worst(touched, verdicts.weights, audited.labels, options.most)
    labels = audited.labels.copy()
    weights: npt.NDArray[np.floating] = np.ones(labels.size)
    if relabel:
        labels = np.where(worst, verdicts.better, labels)
    elif options.policy == "unlabel":
        labels = np.where(worst, -1, labels)
    elif options.policy == "remove":
        weights = np.where(worst, 0.0, 1.0)
    elif options.policy == "weights":
        weights = verdicts.weights
    if options.decisions is not None:
        for row, label in read_decisions(options.decisions, audited).items():
            labels[row], weights[row] = label, 1.0
    names = np.array([*audited.class_names, ""])  # the last, −1, is none
    columns: dict[str, npt.NDArray[Any]] = {"id": audited.ids}
    if audited.paths is not None:
        columns["path"] = np.array(audited.paths)
    columns |= {
        "given_label": names[audited.labels],
        "label": names[labels],
        "weight": np.array([float(f"{w:.6g}") for w in weights]),
    }
    write_atomic(options.out, table_bytes(columns, options.out.suffix[1:]))
    changed = int(((labels != audited.labels) & (labels >= 0)).sum())
    print(
        f"{changed} labels changed, {int((labels < 0).sum())} taken away, {int((weights == 0).sum())} images left out, "
        f"mean weight {weights[weights > 0].mean() if (weights > 0).any() else 0:.2f}: {options.out}"
    )
    print(f"Next: dlkd distill --data.cleaned {options.out}, with the --data options of the audit")
    return columns


def _worst(
    touched: npt.NDArray[np.bool_], weights: npt.NDArray[np.floating], labels: npt.NDArray[np.int64], most: float
) -> npt.NDArray[np.bool_]:
    """Of the labels ``[N]`` that are to be touched, in each class no more than a share of all that it has, those that
    count least first."""
    chosen = np.zeros(labels.size, bool)
    order = np.argsort(weights, kind="stable")
    for c in np.unique(labels):
        members = order[labels[order] == c]
        candidates = members[touched[members]]
        chosen[candidates[: int(most * members.size)]] = True
    return chosen


def read_audit(folder: Path) -> Audited:
    """The audit in a folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        found = json.loads(read_regular(folder / RESULTS, LARGEST))
        kept = read_arrays(folder / PREDICTIONS)
        audited = Audited(
            str(found["audit"]),
            kept["ids"],
            kept["labels"],
            kept["teacher"],
            kept["probe"],
            tuple(map(str, kept["class_names"])),
            None,
        )
        n, classes = audited.labels.size, len(audited.class_names)
        if audited.teacher.shape != (n, classes) or audited.probe.shape != (n, classes) or audited.ids.shape != (n,):
            raise ValueError("its arrays do not fit together")
        if audited.labels.dtype.kind not in "iu" or not ((audited.labels >= 0) & (audited.labels < classes)).all():
            raise ValueError("its labels are no classes")
        if not (np.isfinite(audited.teacher).all() and np.isfinite(audited.probe).all()):
            raise ValueError("its answers are no numbers")
        files = [folder / f"audit.{kind}" for kind in ("csv", "parquet")]
        table = next((file for file in files if file.is_file()), files[0])
        columns = read_table(table, "the audit")
        if list(map(int, map(str, columns["id"]))) != audited.ids.tolist():
            raise ValueError(f"{table.name} has other images")
        return audited._replace(paths=[str(p) for p in columns["path"]] if "path" in columns else None)
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile and json each have errors of their own
        raise UserError(f"the audit in {folder} is damaged ({first_line(error)}); run dlkd audit again") from error


def read_decisions(file: Path, audited: Audited) -> dict[int, int]:
    """Row → class number, −1 for a label that is taken away.

    Raises:
        UserError: no such file, damaged, of another audit, or with unknown images or classes.
    """
    try:
        found = json.loads(read_regular(file, LARGEST))
        if not isinstance(found, dict) or found.get("format") != 1 or not isinstance(found.get("decisions"), list):
            raise ValueError("it is no file of decisions")
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"expected the decisions of a contact sheet in {file}, but {first_line(error)}") from error
    if found.get("audit") != audited.key:
        raise UserError(
            f"expected decisions about audit {audited.key} in {file}, but they are about {found.get('audit')!r:.40}"
        )
    rows = {int(i): row for row, i in enumerate(audited.ids)}
    classes = {name: k for k, name in enumerate(audited.class_names)}
    decided: dict[int, int] = {}
    for each in found["decisions"]:
        known = isinstance(each, dict) and type(each.get("id")) is int and each["id"] in rows
        if not known or each.get("mark") not in MARKS:
            marks = ", ".join(MARKS)
            raise UserError(f"expected an id of the audit and one of {marks} in {file}, but got {each!r:.80}")
        row, label = rows[each["id"]], each.get("label")
        if label is not None and (not isinstance(label, str) or label not in classes):
            raise UserError(f"expected a class of the data in {file}, but got {label!r:.40}")
        if each["mark"] == "right":
            decided[row] = int(audited.labels[row])
        else:
            decided[row] = classes[label] if each["mark"] == "wrong" and label is not None else -1
    return decided


def _of_audit(audited: Audited) -> _Verdicts:
    posterior = label_posterior(audited.teacher, audited.labels)
    actions, better = suggested_actions(posterior, audited.labels)
    weights = self_confidence(posterior, audited.labels).clip(LEAST_WEIGHT, 1)
    return _Verdicts(actions != KEEP, actions == RELABEL, better, weights)


def _of_cleanlab(file: Path, audited: Audited) -> _Verdicts:
    """``get_issues("label")`` of a Datalab: is_label_issue, label_score and perhaps given_label and
    predicted_label, row for row."""
    columns = read_table(file, "--issues")
    if missing := [name for name in ("is_label_issue", "label_score") if name not in columns]:
        raise UserError(f"expected a column {missing[0]!r} in --issues {file}, but found {', '.join(columns)}")
    n = audited.labels.size
    if len(columns["label_score"]) != n:
        raise UserError(f"expected {n} rows in --issues {file}, but found {len(columns['label_score'])}")
    place = _written(file, columns.get("given_label"), audited)
    suspicious = np.array([str(value).lower() == "true" for value in columns["is_label_issue"]])
    better = np.full(n, -1)
    try:
        weights = np.array([float(str(value)) for value in columns["label_score"]])
        if not np.isfinite(weights).all():
            raise ValueError("a label_score is no finite number")
        if "predicted_label" in columns:
            better = np.array([_class(value, place) for value in columns["predicted_label"]])
    except ValueError as error:
        raise UserError(f"--issues {file} is damaged: {first_line(error)}") from error
    return _Verdicts(suspicious, suspicious & (better >= 0), better, weights.clip(LEAST_WEIGHT, 1))


def _written(file: Path, given: Sequence[object] | None, audited: Audited) -> dict[str, int]:
    """How classes are written in a file of cleanlab's: by number, as of ``to_datalab``, or by name. Names may be
    numbers too, but of other classes: the given labels tell.

    Raises:
        UserError: the given labels are not those of the audit.
    """
    numbers = {str(k): k for k in range(len(audited.class_names))}
    names = {name: k for k, name in enumerate(audited.class_names)}
    if given is None:
        return names | numbers
    for place in (numbers, names):
        if [place.get(str(value)) for value in given] == audited.labels.tolist():
            return place
    raise UserError(f"expected the given labels of the audit in --issues {file}, row for row, but found others")


def _class(value: object, place: dict[str, int]) -> int:
    if str(value) not in place:
        raise ValueError(f"there is no class {value!r:.40}")
    return place[str(value)]
