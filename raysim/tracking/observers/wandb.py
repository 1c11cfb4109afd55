"""A run in Weights & Biases: configuration, curves, distributions over clients, the model and the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.observers.base import NoteLevel, Observer
from raysim.tracking.observers.trackers import OVER_CLIENTS, TRIALS, configuration, needed, run_path, scalars, study_of


class WandbObserver(Observer):
    """Logs to Weights & Biases; offline its files lie in the run, and `wandb sync` sends them.

    The trials of a study, and the runs that confirm its winner, are a group with the study's name.
    """

    def __init__(
        self,
        project: str = "raysim",
        entity: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        group: str | None = None,
        artifacts: bool = True,
    ) -> None:
        """Log to a project.

        Args:
            project: its name.
            entity: user or team; by default that of the key.
            mode: `online` needs a key (`wandb login`).
            group: of runs that are shown together; by default the study, of a run that belongs to one.
            artifacts: whether the model and the report are logged at the end.

        Raises:
            ConfigError: wandb is not installed.
        """
        self._wandb = needed("wandb", "wandb")
        self._project, self._entity, self._mode = project, entity, mode
        self._group, self._artifacts = group, artifacts
        self._run: Any = None
        self._waiting: dict[str, Any] = {}

    def start(self, experiment: Experiment, facts: Mapping[str, object], *, after_round: int = 0) -> None:
        """Begin the run, or go on with it: its id is that of its directory."""
        path = run_path(facts)
        study = study_of(path)
        self._run = self._wandb.init(
            project=self._project,
            entity=self._entity,
            mode=self._mode,
            dir=str(path),
            id=hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16],
            resume="allow" if self._mode == "online" else None,
            name=path.name,
            group=self._group or (None if study is None else study.name),
            job_type=job_type(path, study),
            config=configuration(experiment),
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def clients(self, round: int, values: Mapping[str, Float64]) -> None:
        """A histogram for every quantity, logged with the round's numbers."""
        self._waiting |= {OVER_CLIENTS + name: self._wandb.Histogram(found) for name, found in values.items()}

    def round(self, row: RoundRow) -> None:
        """All numbers of the round."""
        self._run.log({**scalars(row), **self._waiting}, step=row.round)
        self._waiting = {}

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """An error or a warning becomes an entry of the summary."""
        if level != "info" and self._run is not None:
            self._run.summary[f"last {level}"] = text

    def finish(self, summary: RunSummary) -> None:
        """Log model and report, and close the run."""
        if self._run is None:
            return
        if self._artifacts and summary.run is not None:
            found = [file for file in (summary.run / "model.safetensors", summary.report) if file is not None]
            artifact = self._wandb.Artifact(f"run-{self._run.id}", type="run")
            for file in (Path(one) for one in found):
                if file.is_file():
                    artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        self._run.summary["reason"] = summary.reason
        self._run.finish(exit_code=1 if summary.reason == "failed" else 0)


def job_type(run: Path, study: Path | None) -> str:
    """W&B's word for what a run is for: a `run`, a `trial` of a study, or the `confirmation` of its winner."""
    if study is None:
        return "run"
    return "trial" if run.parent.name == TRIALS else "confirmation"
