"""Labels that somebody gave: chosen out of a file, matched to the classes, their order checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dlkd.data.noise.noisy import Labels
from dlkd.data.noise.tables import OPTION, Column, read_columns
from dlkd.errors import UserError

SETS = {
    "aggregate": "aggre_label",
    "worst": "worse_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
}
"""Short names of the sets of CIFAR-10N (Wei et al., ICLR 2022), and what its file calls them."""
CLEAN = ("clean_label", "clean_labels", "clean")
"""Names of the column that repeats the labels of the data set, by which the order is checked."""
SIGMAS = 3
"""Agreement within so many standard deviations of chance is that of another order."""


class GivenLabels(NamedTuple):
    """Labels out of a file, as class numbers in the order of the data set."""

    labels: Labels
    chosen: str
    """The name of their column."""


def read_labels(
    path: Path, true: Labels, class_names: Sequence[str], chosen: str | None = None, of: str = "the data"
) -> GivenLabels:
    """The labels in a file, one for each training image of the data set, in its order.

    They are class numbers from 0 or class names; texts that are class names are never taken for numbers. The order is
    checked: where the file repeats the labels of the data set (``clean_label``), they must be equal; otherwise labels
    that agree with them no more often than by chance, Σ_c p(true = c)·p(given = c), are refused.

    Args:
        path: see ``read_columns``; CIFAR-10N and CIFAR-100N as ``.pt`` from their makers, or as ``.npz``.
        true: the labels of the data set ``[N]``.
        class_names: of the data set, in order.
        chosen: which column, by its name or as in ``SETS``; by default the only one there is.
        of: name of the data set, for messages.

    Raises:
        UserError: a file that cannot be read, no such column, another length or order, or unknown classes.
    """
    columns = read_columns(path)
    name = _choose(columns, chosen, path)
    given = _as_numbers(columns[name], class_names, f"{path} ({name})")
    where = f"{OPTION} {path} ({name})"
    if given.size != true.size:
        raise UserError(
            f"expected one label for each of the {true.size} training images of {of} in {where}, but found {given.size}"
        )
    repeated = next((column for column in CLEAN if column in columns and column != name), None)
    if repeated is not None:
        _check_repeated(_as_numbers(columns[repeated], class_names, f"{path} ({repeated})"), true, path, repeated, of)
    else:
        _check_agreement(given, true, len(class_names), where, of)
    return GivenLabels(given, name)


def _choose(columns: dict[str, Column], chosen: str | None, path: Path) -> str:
    """The column that is meant."""
    # CIFAR-100N also has the labels of its 20 superclasses.
    choices = [name for name in columns if name not in CLEAN and "coarse" not in name] or list(columns)
    short = {long: name for name, long in SETS.items()}
    names = ", ".join(short.get(name, name) for name in choices)
    if chosen is not None:
        name = SETS.get(chosen, chosen)
        if name not in choices and chosen not in choices:
            raise UserError(f"expected --data.noise_set out of {names} in {path}, but got {chosen}")
        return chosen if chosen in choices else name
    if len(choices) != 1:
        raise UserError(f"expected --data.noise_set out of {names}: {path} holds {len(choices)} sets of labels")
    return choices[0]


def _as_numbers(column: Column, class_names: Sequence[str], where: str) -> Labels:
    values = np.asarray(column) if isinstance(column, np.ndarray) else _uniform(column, where)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or (values.dtype.kind not in "iuU" and values.size):
        raise UserError(
            f"expected class numbers or class names, one for each image, in {where}, but found {values.dtype} "
            f"{list(values.shape)}"
        )
    if values.dtype.kind == "U":
        values = _of_names(values.tolist(), class_names, where)
    if values.size and not 0 <= int(values.min()) <= int(values.max()) < len(class_names):
        raise UserError(
            f"expected labels between 0 and {len(class_names) - 1} ({len(class_names)} classes) in {where}, but found "
            f"{int(values.min())} to {int(values.max())}"
        )
    return values.astype(np.int64)


def _uniform(values: list[Any], where: str) -> Any:
    kinds = {type(value) for value in values}
    if not kinds <= {int} and not kinds <= {str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(f"expected class numbers or class names, all of one kind, in {where}, but found {found}")
    return np.array(values)


def _of_names(values: list[str], class_names: Sequence[str], where: str) -> Labels:
    place = {name: k for k, name in enumerate(class_names)}
    strange = next((k for k, value in enumerate(values) if value not in place), None)
    if strange is None:
        if len(place) < len(class_names):
            raise UserError(f"expected class numbers in {where}: some classes of the data share a name")
        return np.array([place[value] for value in values], np.int64)
    if all(re.fullmatch(r"-?[0-9]{1,18}", value) for value in values):
        return np.array(values).astype(np.int64)
    near = difflib.get_close_matches(values[strange], class_names, n=1, cutoff=0)[0]
    raise UserError(
        f"expected names of the classes of the data in {where}, but label {strange + 1} is {values[strange]!r} "
        f"(nearest: {near!r})"
    )


def _check_repeated(repeated: Labels, true: Labels, path: Path, name: str, of: str) -> None:
    """The labels of the data set that the file repeats must be those of the data set, in its order."""
    if repeated.size != true.size or (differ := int((repeated != true).sum())):
        found = f"there are {repeated.size}" if repeated.size != true.size else f"{differ} differ"
        raise UserError(
            f"expected {name} in {OPTION} {path} to be the {true.size} labels of {of} in order, but {found}: the file "
            "is of another data set, or in another order; CIFAR-N's .pt files are in torchvision's"
        )


def _check_agreement(given: Labels, true: Labels, classes: int, where: str, of: str) -> None:
    """Refuse labels that agree with those of the data set as seldom as if they were shuffled."""
    if not true.size:
        return
    shares = [np.bincount(labels, minlength=classes) / true.size for labels in (given, true)]
    chance = float(shares[0] @ shares[1])
    agreement = float((given == true).mean())
    if agreement <= chance + SIGMAS * (chance * (1 - chance) / true.size) ** 0.5:
        raise UserError(
            f"expected labels in the order of the training images of {of} in {where}, but only {100 * agreement:.1f} % "
            f"agree with those of the data set, as many as by chance ({100 * chance:.1f} %): the order looks shuffled; "
            f"where it is right, put the labels of the data set beside them as {CLEAN[0]}"
        )
