"""Weights & Biases."""

from __future__ import annotations

import netrc
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dlkd.train.trackers.tracker import PROJECT, Row, Tracker


class WandbTracker(Tracker):
    """Online where there is an account, else in ``RUN/wandb``, for ``wandb sync``; ``WANDB_MODE`` wins."""

    title, key = "W&B", "wandb"

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        super().__init__(folder, settings)
        self.run: Any = None

    def begin(self, history: Sequence[Row]) -> None:
        import wandb

        version = self.version
        if version is None:
            version = uuid.uuid4().hex[:12]
            self.remember(version)
        self.run = wandb.init(
            dir=self.folder.resolve(),  # its process may have been started in another folder
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=version,
            resume="allow",
            name=os.environ.get("WANDB_NAME") or self.name,
            mode=None if os.environ.get("WANDB_MODE") else "online" if _has_account() else "offline",
            config=self.settings,
            # Of machine, environment and code nothing is sent.
            settings=wandb.Settings(
                silent=True,
                console="off",
                reinit="create_new",
                host="",
                disable_git=True,
                disable_code=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        for row in history:
            # Online it says how far it had come. Offline it is told everything again, in a folder of its own.
            if row["step"] >= self.run.step:
                self.log_metrics(row, row["step"])
        self._forget_earlier()

    def _forget_earlier(self) -> None:
        """What an earlier process wrote without a connection is all in the folder of this one."""
        if self.run.offline:
            current = Path(self.run.dir).resolve().parent
            for folder in (self.folder / "wandb").glob(f"offline-run-*-{self.version}*"):
                if folder.resolve() != current:
                    shutil.rmtree(folder, ignore_errors=True)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.run.log(metrics, step=int(metrics["step"]), commit=True)

    def keep(self, files: Sequence[Path]) -> None:
        import wandb

        artefact = wandb.Artifact(f"run-{self.version}", type="run")
        for file in files:
            # Not copied to a folder for all runs: until it is sent it lies where it is.
            artefact.add_file(str(file.resolve()), name=file.name, policy="immutable", skip_cache=True)
        self.run.log_artifact(artefact)

    def revive(self) -> None:
        import wandb

        self.run = None
        if wandb.run is None:  # else the process that may have died works for the user's own runs, too
            with suppress(Exception):
                wandb.teardown()

    def finalize(self, status: str) -> None:
        if self.run is not None:
            run, self.run = self.run, None
            run.finish(exit_code=0 if status == "success" else 1)

    def where(self) -> str:
        found = sorted((self.folder / "wandb").glob(f"offline-run-*-{self.version}*"))
        return f"W&B is offline; send the run with: wandb sync {found[-1]}" if found else ""


def _has_account() -> bool:
    """Has the user told W&B who they are?"""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
