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
