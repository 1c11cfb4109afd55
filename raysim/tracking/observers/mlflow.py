"""A run in MLflow: parameters, metrics of every round, the model and the report as artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.mlflow_store import GROUP, PATH, MlflowStore, be_impatient, points
from raysim.tracking.observers.trackers import Pause, configuration, needed, run_path, scalars, study_of

_STATUS = {"failed": "FAILED", "interrupted": "KILLED"}
"""MLflow's words for how a run ended; all others are finished."""


class MlflowObserver(Observer):
    """Logs to a tracking server, or to a folder.

    A resumed run goes on in the run of MLflow that it began, which it finds by its directory. The trials of a study are
    children of one run that stands for the study, runs of a group children of one that stands for the group.

    In the folder of a metric there can be no other metrics, so names have one slash: `clients/accuracy.mean` for
    `clients/accuracy/mean`.
    """

    def __init__(
        self,
        uri: str | None = None,
        experiment: str | None = None,
        group: str | None = None,
        artifacts: bool = True,
    ) -> None:
        """Log to `uri`, by default that of MLFLOW_TRACKING_URI, else the folder `mlruns` beside the runs.

        Args:
            uri: of a tracking server, or `file:…`, `sqlite:…`.
            experiment: of MLflow, by default the experiment's name; it is made where it is missing.
            group: of runs that are children of one run; by default the study, of a run that belongs to one.
            artifacts: whether the model and the report are copied there at the end.

        Raises:
            ConfigError: mlflow is not installed.
        """
        be_impatient()
        needed("mlflow", "mlflow")
        self._uri, self._experiment, self._group, self._artifacts = uri, experiment, group, artifacts
        self._store: MlflowStore | None = None
        self._run = ""
        self._parent: str | None = None
        self._waiting: list[Any] = []
        self._pause = Pause()

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """Find or make the experiment and the run, and log the configuration as parameters."""
        path = run_path(facts)
        study = study_of(path)
        self._store = store = MlflowStore(self._uri, self._experiment or experiment.name, study or path)
        parent: str | None = None
        if self._group is not None:
            self._parent = parent = store.open(GROUP, self._group, self._group)
        elif study is not None:  # which its driver closes
            parent = store.open(PATH, str(study), study.name)
        self._run = store.open(PATH, str(path.resolve()), path.name, parent=parent)
        if after_round == 0:
            store.parameters(self._run, configuration(experiment))

    def round(self, row: RoundRow) -> None:
        """Metrics of the round, sent at most once a second."""
        self._waiting += points(scalars(row), row.round)
        if self._pause.over():
            self._send()

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """The last warning becomes a tag."""
        if level != "info" and self._store is not None:
            self._store.tag(self._run, f"raysim.{level}", text)

    def finish(self, summary: RunSummary) -> None:
        """Send the rest, the model and the report, and close the run."""
        store = self._store
        if store is None:
            return
        self._send()
        store.tag(self._run, "raysim.reason", summary.reason)
        if self._artifacts and summary.run is not None:
            for file in (summary.run / "model.safetensors", summary.report):
                if file is not None:
                    store.file(self._run, Path(file))
        status = _STATUS.get(summary.reason, "FINISHED")
        for run in (self._run, self._parent):
            if run is not None:
                store.close(run, status)

    def _send(self) -> None:
        assert self._store is not None, "rounds come after the start"
        waiting, self._waiting = self._waiting, []
        self._store.metrics(self._run, waiting)
