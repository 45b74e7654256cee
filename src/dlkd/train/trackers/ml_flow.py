"""MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlkd.train.trackers.tracker import PROJECT, Row, Tracker


class MLflowTracker(Tracker):
    """Where ``MLFLOW_TRACKING_URI`` says; by default where MLflow puts it, in the working folder."""

    title, key = "MLflow", "mlflow"
    known = -1.0
    """The last step that it knows of."""

    def begin(self, history: Sequence[Row]) -> None:
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        # Not MLflow's fluent interface, which adds the names of user, file and commit.
        self.client = MlflowClient()
        known = self._going_on()
        self.known = -1 if known is None else known
        if known is None:
            run = self.client.create_run(self._experiment(), run_name=self.name)
            self.id = run.info.run_id
            self.remember(self.id)
            flat = [Param(key, str(value)[:500]) for key, value in _flat(self.settings).items()]
            for k in range(0, len(flat), 100):
                self.client.log_batch(self.id, params=flat[k : k + 100])
        for row in history:
            self.log_metrics(row, row["step"])

    def _going_on(self) -> float | None:
        """The last step that the run of an earlier process knows of, -1 for none; None where there is no such run."""
        from mlflow.exceptions import MlflowException

        if self.version is None:
            return None
        self.id = self.version
        try:
            found = self.client.get_run(self.id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None  # the store is another one, or the run was deleted
        self.client.update_run(self.id, status="RUNNING")
        return float(found.data.metrics.get("step", -1))

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        if given := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return given
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another run has just made it
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        step = int(metrics["step"])
        if step <= self.known:  # an epoch is trained again after a checkpoint was damaged
            return
        now = int(time.time() * 1000)
        # The step, which says how much is known, last: killed in between, the epoch is told again.
        names = sorted(metrics, key=lambda name: name == "step")
        self.client.log_batch(self.id, metrics=[Metric(n, float(metrics[n]), now, step) for n in names])
        self.known = step

    def keep(self, files: Sequence[Path]) -> None:
        for file in files:
            self.client.log_artifact(self.id, str(file))

    def finalize(self, status: str) -> None:
        ends = {"success": "FINISHED", "stopped": "KILLED"}
        self.client.set_terminated(self.id, status=ends.get(status, "FAILED"))


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted names, without those that say nothing."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat
