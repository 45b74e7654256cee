"""What every tracker does: Fabric's interface of a logger, and how its run is found again."""

from __future__ import annotations

import json
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger

from dlkd.files import write_json

TRACKING = "tracking.json"
"""By tracker, what its run is called there."""
PROJECT = "dlkd"
Row = dict[str, Any]


class Tracker(Logger):
    """The run of one tracker.

    Args:
        folder: of the run; its last part is what the run is called.
        settings: the options, as plain values.
    """

    title, key = "", ""
    """What messages call it, and ``--engine.track``."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings, self.lost = folder, settings, False

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.folder.resolve().name

    @property
    def version(self) -> str | None:
        """By which it is found again; None before it has begun."""
        return known_runs(self.folder).get(self.key)

    def remember(self, version: str) -> None:
        """Keep ``version`` beside the run."""
        write_json(self.folder / TRACKING, {**known_runs(self.folder), self.key: version})

    @abstractmethod
    def begin(self, history: Sequence[Row]) -> None:
        """Go on with the run or begin it, and tell it the epochs of ``history`` that it does not know."""

    def revive(self) -> None:
        """Make ready for another :meth:`begin` after a failure."""

    @abstractmethod
    def keep(self, files: Sequence[Path]) -> None:
        """Files of the run as artefacts."""

    def where(self) -> str:
        """What there is to say at the end; perhaps nothing."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Part of :meth:`begin`."""


def known_runs(folder: Path) -> dict[str, str]:
    """By tracker, the version of its run; empty where the file is not there, or damaged."""
    try:
        found = json.loads((folder / TRACKING).read_text())
        return {key: value for key, value in found.items() if isinstance(value, str)}
    except (OSError, ValueError, AttributeError):
        return {}
