"""What a run was told, out of its folder: images, views, difficulty. No code that a folder names is imported."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dlkd.data import DataOptions, ViewOptions
from dlkd.difficulty import DifficultyScore
from dlkd.errors import UserError, first_line
from dlkd.jobs.card import CONFIG
from dlkd.jobs.teacher_answers import Reference
from dlkd.methods import LossOptions, make_method
from dlkd.pages.plain_yaml import read_plain
from dlkd.pages.typed import typed
from dlkd.run_folder import unfinished
from dlkd.train.teacher_options import ProbeOptions


def data_of_run(folder: Path) -> DataOptions:
    """The images and labels that the run in ``folder`` was told to use."""
    with _config(folder) as config:
        # What has no label has no figures either.
        asked = dataclasses.replace(typed(DataOptions, config["data"]), unlabelled=None)
        if "root" not in config["data"]:
            raise ValueError("it does not say where the data are")
        asked.check()
        before, colon, _ = asked.name.partition(":")
        if colon and before != "hf":
            raise UserError(
                f"the run in {folder} was made with the data factory {asked.name!r}, which would be imported and run; "
                "if you trust it, state the --data options"
            )
        return asked


def images_of_run(folder: Path) -> DataOptions:
    """Which images and classes the run in ``folder`` has, and nothing else, for whoever only looks at it: a file of
    noise or of cleaned labels may be gone by now, and nothing is fetched."""
    return dataclasses.replace(
        data_of_run(folder),
        download=False,
        verify=False,
        cleaned=None,
        labelled=1.0,
        train_per_class=None,
        noise=0.0,
        noise_kind="symmetric",
        noise_file=None,
        noise_set=None,
    )


def reference_of_run(folder: Path, classes: int) -> Reference:
    """What difficulty was in the run in ``folder``, and what its level was calibrated on; of a run without a teacher,
    its views alone."""
    with _config(folder) as config:
        found = Reference(typed(ViewOptions, config["views"]), int(config["seed"]))
        if "probe" not in config:
            return found
        found = found._replace(
            probe=typed(ProbeOptions, config["probe"]), batch_size=int(config["optim"]["batch_size"])
        )
        if ":" in (name := str(config["method"])):
            print(
                f"note: difficulty is that of the defaults: the method of the run is {name:.80}, which would be "
                "imported and run"
            )
            return found
        method = make_method(name, typed(LossOptions, config["loss"]), classes)
        return found._replace(score=method.score or DifficultyScore(), level=method.level)


def data_beside(weights: Path, asked: DataOptions, what: str, otherwise: str = "") -> tuple[DataOptions, Path | None]:
    """The images and labels to look at ``weights`` with, and the folder of their run where they are those of it.

    Args:
        weights: a file, or the folder of a run.
        asked: options of the user; where none is given, those of the run count.
        what: is done to the images, for the message.
        otherwise: what else the user may do, for the message.

    Raises:
        UserError: nobody says which images, or a run that does is damaged.
    """
    if asked != DataOptions():
        return asked, None
    folder = weights if weights.is_dir() else weights.parent
    if not (folder / CONFIG).is_file():
        # Options that are all defaults cannot be told from none; the number of workers changes no image of digits.
        raise UserError(
            unfinished(folder)
            or f"expected {CONFIG} of the run beside {weights}, to know which images to {what}, but there is none; "
            f"give the --data options (of the digits, --data.workers 0){otherwise}"
        )
    return data_of_run(folder), folder


@contextlib.contextmanager
def _config(folder: Path) -> Iterator[dict[str, Any]]:
    """Every option of the run in ``folder``; what goes wrong in the block is told in one line."""
    file = folder / CONFIG
    try:
        yield read_plain(file)
    except UserError:
        raise
    except Exception as error:  # YAML has many, and so have options of the wrong kind
        reason = first_line(error)
        raise UserError(f"{file} is damaged ({reason}); state the --data options") from error
