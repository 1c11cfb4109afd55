"""Where runs of MLflow are kept: found by what they stand for, opened again, closed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysim.tracking.observers.trackers import needed

PATH, GROUP = "raysim.run", "raysim.group"
"""Tags by which a run of MLflow is found again: the folder of the run or study that it stands for, or the group."""

_BATCH = 1000
"""Metrics that MLflow takes in one call."""
_LONGEST = 6000
"""Characters of a parameter or a tag."""


class MlflowStore:
    """An experiment of MLflow on a tracking server or in a folder."""

    def __init__(self, uri: str | None, experiment: str, root: Path) -> None:
        """Find the experiment, or make it.

        Args:
            uri: of a tracking server, or `file:…`, `sqlite:…`; by default that of MLFLOW_TRACKING_URI, else the folder
                `mlruns` beside `root`.
            experiment: its name.
            root: the folder of a run, or of a study for the runs that belong to it.
        """
        needed("mlflow", "mlflow")
        from mlflow.tracking import MlflowClient

        self.client: Any = MlflowClient(tracking_uri=_place(uri, root))
        known = self.client.get_experiment_by_name(experiment)
        self._experiment = known.experiment_id if known is not None else self.client.create_experiment(experiment)

    def open(self, tag: str, value: str, name: str, *, parent: str | None = None) -> str:
        """The id of the run with this tag, which is `RUNNING` again; of a new one where there is none.

        Args:
            tag: `PATH` or `GROUP`.
            value: of the tag.
            name: of a new run.
            parent: id of the run that a new one is a child of.
        """
        own = value.replace("'", "\\'")
        known = self.client.search_runs([self._experiment], f"tags.`{tag}` = '{own}'", max_results=1)
        if known:
            run = str(known[0].info.run_id)
            self.close(run, "RUNNING")
            return run
        tags = {tag: value} if parent is None else {tag: value, "mlflow.parentRunId": parent}
        return str(self.client.create_run(self._experiment, tags=tags, run_name=name).info.run_id)

    def close(self, run: str, status: str) -> None:
        """Give the run a status: `RUNNING`, `FINISHED`, `FAILED` or `KILLED`."""
        self.client.set_terminated(run, status)

    def tag(self, run: str, name: str, value: object) -> None:
        """Set a tag, cut where it is too long."""
        self.client.set_tag(run, name, str(value)[:_LONGEST])

    def parameters(self, run: str, values: Mapping[str, Any]) -> None:
        """Log parameters, cut where they are too long; a run's parameters cannot be changed later."""
        from mlflow.entities import Param

        found = [Param(key, str(value)[:_LONGEST]) for key, value in values.items()]
        for i in range(0, len(found), 100):  # the most that it takes in one call
            self.client.log_batch(run, params=found[i : i + 100])

    def metrics(self, run: str, metrics: list[Any]) -> None:
        """Log what `points` made."""
        for i in range(0, len(metrics), _BATCH):
            self.client.log_batch(run, metrics=metrics[i : i + _BATCH])

    def file(self, run: str, file: Path) -> None:
        """Copy a file there, if there is one."""
        if file.is_file():
            self.client.log_artifact(run, str(file))


def points(values: Mapping[str, float], step: int) -> list[Any]:
    """Metrics of MLflow, with one slash in a name; NaN is left out, which stores do not agree on."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(_flat(name), value, now, step) for name, value in values.items() if not math.isnan(value)]


def be_impatient() -> None:
    """A server that does not answer is found out about in seconds; the default is minutes."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")


def _place(uri: str | None, root: Path) -> str:
    """Where to log; a folder needs MLflow's consent, which it asks for since its version 3."""
    found = uri or os.environ.get("MLFLOW_TRACKING_URI") or (root.resolve().parent / "mlruns").as_uri()
    if found.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return found


def _flat(name: str) -> str:
    """A metric's name with one slash."""
    where, _, what = name.partition("/")
    return f"{where}/{what.replace('/', '.')}" if what else where
