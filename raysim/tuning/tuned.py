"""`tune`: from an experiment with a `tuning` section to a study that is finished, confirmed and reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow as pa
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from torch import nn

from raysim.config import Experiment
from raysim.config.showing import hidden
from raysim.errors import LostError, RunError, StorageError
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.files import looked_up, storing
from raysim.tracking import ResultTable
from raysim.tracking.observers.build import check_trackers
from raysim.tracking.report.markup import table
from raysim.tracking.units import figure
from raysim.tuning.bench import Bench, open_bench
from raysim.tuning.confirming import Confirmation, Confirmed, confirmation_seeds, confirmed_metric
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.groups import form_groups
from raysim.tuning.objective import Goal, resolve_goals
from raysim.tuning.progress import ConfirmedGain, StudyProgress, StudyResult, checked_progress
from raysim.tuning.sampling import check_sampling
from raysim.tuning.searching import Search
from raysim.tuning.space import Space
from raysim.tuning.study import TunedStudy
from raysim.tuning.tracked import TrackedStudy
from raysim.tuning.words import spoken


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished study.

    Attributes:
        directory: the study's folder.
        study: the plain Optuna study.
        trial: the winner: the best trial, or of several objectives the best in the first on the Pareto front.
        experiment: the experiment with the winner's values, to be run.
        weights: of each client or group by name, where they were varied.
        confirmed: the winner against the experiment as it stands; None where that was left out.
    """

    directory: Path
    study: Study
    trial: FrozenTrial
    experiment: Experiment
    weights: Mapping[str, float] | None
    confirmed: Confirmed | None

    def table(self) -> ResultTable:
        """A row a trial: number, state, values of the objectives, and those of the keys that were varied."""
        rows = [
            {
                "trial": one.number,
                "state": one.state.name.lower(),
                **{f"value {i}" if i else "value": value for i, value in enumerate(one.values or ())},
                **{key: spoken(value) for key, value in one.params.items()},
            }
            for one in self.study.get_trials(deepcopy=False)
        ]
        names = list(dict.fromkeys(name for row in rows for name in row))
        return ResultTable(pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows]))

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`.

        Raises:
            ConfigError: pandas is not installed.
        """
        return self.table().to_pandas()

    def _repr_html_(self) -> str:
        values = ", ".join(figure(value) for value in self.trial.values or ())
        facts = [("best", f"trial {self.trial.number}: {values}")]
        facts += [(key, spoken(value)) for key, value in self.trial.params.items()]
        facts += [] if self.confirmed is None else [("fresh seeds", self.confirmed.sentence())]
        return table((), [*facts, ("study", str(self.directory))], text_columns=2).text


def tune(
    experiment: Experiment | str | PathLike[str] | Mapping[str, Any] | None = None,
    *,
    directory: str | Path | None = None,
    model: nn.Module | None = None,
    data: Any = None,
    overrides: Sequence[str] = (),
    progress: StudyProgress | None = None,
) -> Tuned:
    """Run a study, or go on with one, until it has as many trials as `tuning.trials` says.

    Args:
        experiment: what to tune, with its `tuning` section; the path of its YAML file, or a nested mapping, will do.
            May be left out to go on with the study in `directory`.
        directory: the study's folder; where one lies already, it goes on. By default a new one below
            `experiment.tracking.directory`.
        model: a module of your own instead of `experiment.model`.
        data: arrays of your own instead of `experiment.data.source`.
        overrides: `key.sub=value`, applied to the experiment.
        progress: shows the study's trials, such as `PlainStudy()`; by default nothing is shown.

    Raises:
        RaysimError: space, objective, storage or experiment are wrong; one line, before anything starts.

    Example:
        >>> from raysim import Experiment, tune
        >>> tuned = tune(Experiment.from_yaml("configs/tune_lr.yaml"))
        >>> print(tuned.trial.params, tuned.confirmed)
    """
    progress = checked_progress(progress)
    if directory is not None:
        looked_up(directory)
    if experiment is None:
        if directory is None or not StudyDirectory.is_study(directory):
            raise RunError(f"{directory or 'tune'}: no study to go on with; give an experiment")
        experiment = StudyDirectory(Path(directory)).experiment()
    experiment = Experiment.of(experiment)
    if overrides:
        experiment = experiment.updated(overrides)
    return _Tuning(experiment, directory, model, data, progress).run()


class _Tuning:
    """The steps, each checked before the next one costs anything."""

    def __init__(
        self,
        experiment: Experiment,
        directory: str | Path | None,
        model: nn.Module | None,
        data: Any,
        progress: StudyProgress,
    ) -> None:
        self._model, self._data = model, data
        check_trackers(experiment.tracking.observers)
        found = StudyDirectory.new(experiment.tracking.directory, experiment.name)
        self._directory = found if directory is None else StudyDirectory(Path(directory))
        self._directory.refuse_taken()
        self._prepared = prepare_job(_open_engine(experiment, self._directory), model=model, data=data)
        self._experiment = self._prepared.experiment
        self._seed = self._experiment.seed if self._experiment.tuning.seed is None else self._experiment.tuning.seed
        self._goals = _goals(self._prepared)
        federation, config = self._prepared.federation, self._experiment
        self._groups = form_groups(config.tuning.weights, federation, config.aggregation.weights, self._seed)
        self._space = Space(self._experiment, self._groups)
        check_sampling(config.tuning.sampler, config.tuning.pruner, self._space, len(self._goals))
        self._metric = confirmed_metric(self._prepared, self._goals[0])
        if self._directory.is_study(self._directory.path):
            self._directory.check_same(self._experiment)
        self._progress = TrackedStudy(progress, self._experiment, self._directory.path)

    def run(self) -> Tuned:
        """Search, confirm, report.

        Raises:
            StorageError: the disk or the database refuses; the line says how to go on.
        """
        again = f"then: raysim tune {self._directory.path}"
        try:
            with self._progress:
                return self._run()
        except KeyboardInterrupt as error:
            if self._directory.is_study(self._directory.path):
                error.add_note(f"continue with: raysim tune {self._directory.path}")
            raise
        except (StorageError, LostError) as error:
            # The bare cause, without the remedy for a single run.
            cause = error.__cause__ if isinstance(error.__cause__, StorageError) else error
            raise type(error)(f"{cause}, {again}") from error
        except StorageInternalError as error:
            reason = hidden((str(error).splitlines() or [type(error).__name__])[0])
            raise StorageError(
                f"tuning.storage: {self._experiment.tuning.storage} cannot be written ({reason}); see that it can be "
                f"reached and has room, {again}"
            ) from error

    def _run(self) -> Tuned:
        with self._directory.lock(), open_bench(self._experiment, self._model, self._data) as bench:
            study = TunedStudy(self._directory, self._space, self._goals, self._seed)
            self._directory.record(self._experiment)
            self._progress.start(self._facts(study))
            try:
                Search(study, bench, self._directory, self._progress).run()
                winner = best_trial(study.optuna, self._goals)
                experiment = self._space.experiment_of(winner.params)
                confirmed = self._confirm(bench, winner, experiment)
            except KeyboardInterrupt:  # at once: the runs under way are ended first
                self._progress.note("interrupted; ending the runs under way (a second one stops at once)")
                raise
        tuned = Tuned(self._directory.path, study.optuna, winner, experiment, self._weights(winner), confirmed)
        with storing(self._directory.best):
            experiment.to_yaml(self._directory.best)
        report = self._report()
        self._progress.finish(self._lines(tuned, report), self._result(tuned, report))
        return tuned

    def _confirm(self, bench: Bench, winner: FrozenTrial, experiment: Experiment) -> Confirmed | None:
        config = self._experiment.tuning.confirm
        if not config.seeds:
            return None
        if experiment == self._experiment:
            self._progress.note("the experiment as it stands is the best trial: there is nothing to confirm")
            return None
        seeds = confirmation_seeds(self._seed, config.seeds)
        steps = Confirmation(self._directory, bench, self._progress, self._experiment, experiment, winner.number)
        return steps.run(self._metric, seeds, config.level)

    def _report(self) -> Path | None:
        if not self._experiment.tracking.report:
            return None
        from raysim.tuning.report import write_study_report

        try:
            return write_study_report(self._directory.path)
        except Exception as error:  # a report that fails does not end a study
            self._progress.note(f"no report could be written ({type(error).__name__}: {error})")
            return None

    def _weights(self, winner: FrozenTrial) -> Mapping[str, float] | None:
        weights = self._space.weights_of(winner.params)
        if weights is None or self._groups is None:
            return None
        return dict(zip(self._groups.names, weights.tolist(), strict=True))

    def _facts(self, study: TunedStudy) -> dict[str, object]:
        tuning = self._experiment.tuning
        varied = [*tuning.space, *([] if self._groups is None else [f"{len(self._groups.names)} weights"])]
        return {
            "study": str(self._directory.path),
            "varies": ", ".join(varied),
            "objective": ", ".join(f"{'max' if g.maximise else 'min'} {g.name}" for g in self._goals),
            "trials": f"{tuning.trials} ({study.done} done), {tuning.parallel} at once, sampler {tuning.sampler.name}, "
            f"pruner {tuning.pruner.name}",
        }

    def _lines(self, tuned: Tuned, report: Path | None) -> list[str]:
        values = "  ".join(
            f"{goal.name} {figure(value)}" for goal, value in zip(self._goals, tuned.trial.values, strict=True)
        )
        lines = [f"best    trial {tuned.trial.number}  {values}"]
        if tuned.confirmed is not None:
            lines.append(f"fresh   {tuned.confirmed.sentence()}")
        lines.append(f"study   {tuned.directory}")
        lines.append(f"run it  raysim run {self._directory.best}")
        return [*lines, f"report  {report}"] if report is not None else lines

    def _result(self, tuned: Tuned, report: Path | None) -> StudyResult:
        found = tuned.confirmed
        return StudyResult(
            study=tuned.directory,
            trial=tuned.trial.number,
            values=dict(zip([goal.name for goal in self._goals], tuned.trial.values, strict=True)),
            params=tuned.trial.params,
            weights=tuned.weights,
            confirmed=None if found is None else ConfirmedGain(found.metric, found.difference, found.interval),
            report=report,
        )


def best_trial(study: Study, goals: Sequence[Goal]) -> FrozenTrial:
    """The winner.

    Raises:
        RunError: no trial is complete.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise RunError("no trial of the study is complete, so there is no best one; see why they failed in the report")
    if len(goals) == 1:
        return study.best_trial
    sign = -1 if goals[0].maximise else 1
    return min(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))


def _open_engine(experiment: Experiment, directory: StudyDirectory) -> Experiment:
    """A study that goes on computes with the engine that it was begun with: another one has other last bits."""
    if not directory.is_study(directory.path) or experiment.training.engine != "auto":
        return experiment
    values = experiment.to_dict()
    recorded = directory.experiment().to_dict()["training"]
    values["training"] |= {key: recorded[key] for key in ("engine", "rows", "compile")}
    return Experiment.parse(values)


def _goals(prepared: Prepared) -> tuple[Goal, ...]:
    experiment = prepared.experiment
    plan = EvaluationPlan.of(experiment, prepared.federation, prepared.metrics)
    return resolve_goals(experiment.tuning.objective, ["train/loss", *plan.names, *prepared.virtual], experiment.rounds)
