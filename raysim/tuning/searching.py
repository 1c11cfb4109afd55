"""The search itself: ask, run, prune, tell, on the driver; trials run wherever the bench has room."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna import Trial
from optuna.trial import TrialState

from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.tuning.bench import Bench, Report
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.objective import TrialRound
from raysim.tuning.progress import State, StudyProgress, TrialLine
from raysim.tuning.study import TunedStudy


@dataclass(slots=True)
class _Flight:
    """A trial that runs."""

    trial: Trial
    began: float
    rounds: list[TrialRound] = field(default_factory=list)


class Search:
    """Keeps the bench busy until there are as many trials as were asked for."""

    def __init__(self, study: TunedStudy, bench: Bench, directory: StudyDirectory, progress: StudyProgress) -> None:
        self._study, self._bench, self._directory, self._progress = study, bench, directory, progress
        self._flights: dict[str, _Flight] = {}
        tuning = study.space.experiment.tuning
        self._trials, self._prunes = tuning.trials, tuning.pruner.name != "none"
        if tuning.sampler.name == "grid":
            self._trials = min(self._trials, sum(1 for _ in study.space.grid()))

    def run(self) -> None:
        """Search to the end."""
        while True:
            while self._bench.room and self._study.done + len(self._flights) < self._trials:
                self._begin()
            if not self._flights:
                return
            self._hear(self._bench.wait())

    def _begin(self) -> None:
        trial = self._study.next_trial()
        flight = _Flight(trial, time.monotonic())
        twin = self._study.twin(trial)
        if twin is not None:
            trial.set_user_attr("same_as", twin.number)
            self._end(flight, "complete", list(twin.values))
            return
        try:
            experiment = trial_experiment(self._study.space.experiment_of(trial.params))
        except ConfigError as error:
            self._study.fail(trial, str(error), lost=False)
            self._tell_people(flight, "failed", reason=str(error))
            return
        key = str(trial.number)
        self._flights[key] = flight
        self._bench.start(key, experiment, str(self._directory.trial(trial.number).resolve()))

    def _hear(self, report: Report) -> None:
        flight = self._flights[report.key]
        if report.progressed is None:
            del self._flights[report.key]
            reason = report.failed or ""
            self._note_costs(flight)
            self._study.fail(flight.trial, reason, lost=report.lost)
            self._tell_people(flight, "lost" if report.lost else "failed", reason=reason)
            return
        for seen in report.progressed.rounds:
            flight.rounds.append(seen)
            ended = self._early_end(flight)
            if ended is not None:
                del self._flights[report.key]
                if not report.progressed.finished:
                    self._bench.stop(report.key)
                self._end(flight, ended, self._values(flight))
                return
        if report.progressed.finished:
            del self._flights[report.key]
            self._end(flight, "complete", self._values(flight))

    def _early_end(self, flight: _Flight) -> State | None:
        """Whether the trial ends with its newest round: nothing more can change, or it is not worth going on."""
        goals = self._study.goals
        if all(goal.reached(flight.rounds) for goal in goals):
            return "complete"
        if len(goals) > 1:
            return None
        value = goals[0].intermediate(flight.rounds)
        if value is None:
            return None
        flight.trial.report(value, flight.rounds[-1].number)
        return "pruned" if self._prunes and flight.trial.should_prune() else None

    def _values(self, flight: _Flight) -> list[float]:
        return [goal.value(flight.rounds) for goal in self._study.goals]

    def _end(self, flight: _Flight, state: State, values: Sequence[float]) -> None:
        self._note_costs(flight)
        if state == "pruned":
            self._study.prune(flight.trial)
            self._tell_people(flight, "pruned")
        elif any(math.isnan(value) for value in values):
            reason = "its objective is not a number"
            self._study.fail(flight.trial, reason, lost=False)
            self._tell_people(flight, "failed", reason=reason)
        else:
            self._study.complete(flight.trial, values)
            self._tell_people(flight, "complete", values)

    def _note_costs(self, flight: _Flight) -> None:
        trial, rounds = flight.trial, flight.rounds
        trial.set_user_attr("rounds", len(rounds))
        trial.set_user_attr("steps", sum(seen.steps for seen in rounds))
        trial.set_user_attr("bytes", sum(seen.bytes for seen in rounds))

    def _tell_people(
        self, flight: _Flight, state: State, values: Sequence[float] = (), *, reason: str | None = None
    ) -> None:
        study, goals = self._study.optuna, self._study.goals
        best: tuple[float, int] | None = None
        if len(goals) == 1 and study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            best = (study.best_value, study.best_trial.number)
        by_name = dict(zip([goal.name for goal in goals], values, strict=False))
        params: dict[str, Any] = {k: v for k, v in flight.trial.params.items() if not k.startswith("weights.")}
        self._progress.trial(
            TrialLine(
                flight.trial.number,
                self._study.done,
                self._trials,
                state,
                by_name,
                params,
                len(flight.rounds),
                time.monotonic() - flight.began,
                best,
                reason,
            )
        )


def trial_experiment(experiment: Experiment, *, tests: bool = False, seed: int | None = None) -> Experiment:
    """An experiment as a trial runs it: alone in its folder, and without a look at the test set.

    Args:
        tests: look at the test set after all, for the confirmation.
        seed: of everything but the data.
    """
    values = experiment.to_dict()
    values["tracking"] |= {"checkpoint_every": 0, "report": False, "clients": False}
    for observer in values["tracking"]["observers"]:
        if "artifacts" in observer:  # a study has many trials, and keeps no model of theirs either
            observer["artifacts"] = False
    values["tuning"] = {}
    values["evaluation"]["generate"] = None
    values["data"]["seed"] = experiment.data_seed
    if seed is not None:
        values["seed"] = seed
    if not tests:
        values["evaluation"]["sets"] = [part for part in experiment.evaluation.sets if part != "test"]
        if not experiment.data.holdout:  # without the clients' test samples, metrics on them are left out as well
            values["evaluation"] |= {"fine_tune": None, "local_baseline": None}
    return Experiment.parse(values)
