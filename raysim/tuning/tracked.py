"""A study in MLflow: one run that is the parent of its trials, with their values and the winner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from raysim.config import Experiment
from raysim.config.observers import MlflowObserverConfig
from raysim.tracking.observers.mlflow_store import PATH, MlflowStore, be_impatient, points
from raysim.tuning.progress import StudyProgress, StudyResult, TrialLine
from raysim.tuning.words import spoken
from raysim.user_code import told


class TrackedStudy:
    """Passes what is told of a study on, and keeps it in the MLflow of `tracking.observers`, too.

    The run of MLflow has the objectives of every trial, with the trial's number as step; the winner's number and values
    as tags `best.…`; and the study's report as an artifact. A resumed study goes on in the run that it began. Where
    MLflow fails, one line says so, and the study goes on without it.
    """

    def __init__(self, progress: StudyProgress, experiment: Experiment, folder: Path) -> None:
        """Of the study in this folder; does nothing yet."""
        self._progress, self._experiment, self._folder = progress, experiment, folder.resolve()
        observers = experiment.tracking.observers
        self._configs = [one for one in observers if isinstance(one, MlflowObserverConfig) and one.group is None]
        self._open: list[tuple[MlflowStore, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._tell(lambda store, run: store.close(run, status))

    def start(self, facts: Mapping[str, object]) -> None:
        """Make the run before any trial does, or open it again."""
        self._progress.start(facts)
        for config in self._configs:
            be_impatient()
            try:
                store = MlflowStore(config.uri, config.experiment or self._experiment.name, self._folder)
                self._open.append((store, store.open(PATH, str(self._folder), self._folder.name)))
            except Exception as error:
                self._without(error)

        def describe(store: MlflowStore, run: str) -> None:
            for name, value in facts.items():
                store.tag(run, f"raysim.{name}", value)

        self._tell(describe)

    def trial(self, line: TrialLine) -> None:
        """The trial's objectives."""
        self._progress.trial(line)
        self._tell(lambda store, run: store.metrics(run, points(line.values, line.number)))

    def note(self, text: str) -> None:
        """Passed on."""
        self._progress.note(text)

    def finish(self, lines: Sequence[str], result: StudyResult) -> None:
        """The winner, what the confirmation found, and the report."""
        self._progress.finish(lines, result)
        best = {"trial": result.trial, **result.values, **{k: spoken(v) for k, v in result.params.items()}}
        found = (
            {} if result.confirmed is None else {f"confirmed/{result.confirmed.metric}": result.confirmed.difference}
        )

        def tell(store: MlflowStore, run: str) -> None:
            for name, value in best.items():
                store.tag(run, f"best.{name}", value)
            store.metrics(run, points(found, result.trial))
            if result.report is not None:
                store.file(run, result.report)

        self._tell(tell)

    def _tell(self, call: Callable[[MlflowStore, str], None]) -> None:
        for one in tuple(self._open):
            try:
                call(*one)
            except Exception as error:
                self._open.remove(one)
                self._without(error)

    def _without(self, error: Exception) -> None:
        self._progress.note(f"MLflow has no more of the study itself, which goes on ({told(error)})")
