"""A run in MLflow: parameters, metrics of every round, the model and the report as artifacts."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.trackers import Pause, configuration, needed, run_path, scalars, study_of

_BATCH = 1000
"""Metrics that MLflow takes in one call."""
_PARAMETERS = 100
"""Parameters that it takes in one call."""
_LONGEST = 6000
"""Characters of a parameter."""


class MlflowObserver(Observer):
    """Logs to a tracking server, or to a folder.

    A resumed run goes on in the run of MLflow that it began, which it finds by its directory. The trials of a study are
    children of one run that stands for the study.

    In the folder of a metric there can be no other metrics, so names have one slash: `clients/accuracy.mean` for
    `clients/accuracy/mean`.
    """

    def __init__(self, uri: str | None = None, experiment: str | None = None, artifacts: bool = True) -> None:
        """Log to `uri`, by default that of MLFLOW_TRACKING_URI, else the folder `mlruns` beside the runs.

        Args:
            uri: of a tracking server, or `file:…`, `sqlite:…`.
            experiment: of MLflow, by default the experiment's name; it is made where it is missing.
            artifacts: whether the model and the report are copied there at the end.

        Raises:
            ConfigError: mlflow is not installed.
        """
        # A server that does not answer is found out about in seconds; the default is minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        needed("mlflow", "mlflow")
        self._uri, self._experiment, self._artifacts = uri, experiment, artifacts
        self._client: Any = None
        self._run = ""
        self._waiting: list[Any] = []
        self._pause = Pause()

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """Find or make the experiment and the run, and log the configuration as parameters."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        path = run_path(facts)
        self._client = MlflowClient(tracking_uri=self._place(path))
        name = self._experiment or experiment.name
        known = self._client.get_experiment_by_name(name)
        place = known.experiment_id if known is not None else self._client.create_experiment(name)
        study = study_of(path)
        tags = {"raysim.run": str(path.resolve())}
        if study is not None:
            tags["mlflow.parentRunId"] = self._found(place, {"raysim.run": str(study)}, study.name)
        self._run = self._found(place, tags, path.name)
        parameters = [Param(key, str(value)[:_LONGEST]) for key, value in configuration(experiment).items()]
        if after_round == 0:
            for i in range(0, len(parameters), _PARAMETERS):
                self._client.log_batch(self._run, params=parameters[i : i + _PARAMETERS])

    def round(self, row: RoundRow) -> None:
        """Metrics of the round, sent at most once a second; NaN is left out, which stores do not agree on."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._waiting += [
            Metric(_flat(name), value, now, row.round) for name, value in scalars(row).items() if not math.isnan(value)
        ]
        if self._pause.over():
            self._send()

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """The last warning becomes a tag."""
        if level != "info" and self._run:
            self._client.set_tag(self._run, f"raysim.{level}", text[:_LONGEST])

    def finish(self, summary: RunSummary) -> None:
        """Send the rest, the model and the report, and close the run."""
        if not self._run:
            return
        self._send()
        self._client.set_tag(self._run, "raysim.reason", summary.reason)
        if self._artifacts and summary.run is not None:
            for file in (summary.run / "model.safetensors", summary.report):
                if file is not None and Path(file).is_file():
                    self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, "FAILED" if summary.reason == "failed" else "FINISHED")

    def _place(self, run: Path) -> str:
        """Where to log; a folder needs MLflow's consent, which it asks for since its version 3."""
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            root = study_of(run) or run
            uri = (root.resolve().parent / "mlruns").as_uri()
        if uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        return uri

    def _found(self, place: str, tags: Mapping[str, str], name: str) -> str:
        """The run with this directory, opened again if there is one; else a new one with these tags."""
        own = tags["raysim.run"].replace("'", "\\'")
        known = self._client.search_runs([place], f"tags.`raysim.run` = '{own}'", max_results=1)
        if not known:
            return str(self._client.create_run(place, tags=dict(tags), run_name=name).info.run_id)
        run: str = known[0].info.run_id
        self._client.set_terminated(run, "RUNNING")
        return run

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        for i in range(0, len(waiting), _BATCH):
            self._client.log_batch(self._run, metrics=waiting[i : i + _BATCH])


def _flat(name: str) -> str:
    """A metric's name with one slash."""
    where, _, what = name.partition("/")
    return f"{where}/{what.replace('/', '.')}" if what else where
