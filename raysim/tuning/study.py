"""Opening a study, new or interrupted: storage, trials of dead drivers, retries, what is tried first."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from raysim.config import Experiment
from raysim.config.parsing import Malformed, parse_json
from raysim.errors import ConfigError, RunError
from raysim.tuning.directory import StudyDirectory, refuse_difference
from raysim.tuning.objective import Goal
from raysim.tuning.sampling import build_pruner, build_sampler
from raysim.tuning.space import Space
from raysim.tuning.storage import open_storage

ASKED, DRIVER, RETRY_OF, LOST, ERROR, DEFAULT = "asked", "driver", "retry_of", "lost", "error", "default"
"""User attributes: of a study what was asked for; of a trial whose it is, the trial that it repeats, what failed."""


class TunedStudy:
    """A plain Optuna study, and raysim's rules for its trials.

    A trial whose process, or driver, died fails and is queued once more; a trial that fails by itself (it diverged,
    say) counts as done. Only the driver that holds the study's folder opens it.
    """

    def __init__(self, directory: StudyDirectory, space: Space, goals: Sequence[Goal], seed: int) -> None:
        """Open the study, or make it.

        Raises:
            ConfigError: the storage cannot be opened.
            RunError: the storage has a study of this name with another search space.
        """
        experiment = space.experiment
        self.directory, self.space, self.goals, self.seed = directory, space, goals, seed
        self._config = experiment.tuning
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions = [StudyDirection.MAXIMIZE if goal.maximise else StudyDirection.MINIMIZE for goal in goals]
        self.optuna = _opened(directory, experiment, directions)
        asked = json.dumps(experiment.to_dict(), sort_keys=True)
        recorded = self.optuna.user_attrs.get(ASKED)
        if recorded is None:
            self.optuna.set_user_attr(ASKED, asked)
            with warnings.catch_warnings():  # Optuna calls it experimental; the dashboard shows the names
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.optuna.set_metric_names([goal.name for goal in goals])
        else:
            where = experiment.tuning.storage or str(directory.path)
            refuse_difference(where, _asked(recorded, where), experiment)
        self._recover()
        self._enqueue_first()

    @property
    def done(self) -> int:
        """Trials that count: complete, pruned, or failed by themselves or twice."""
        return sum(counts(trial) for trial in self.optuna.get_trials(deepcopy=False))

    def next_trial(self) -> Trial:
        """What to try next."""
        number = len(self.optuna.get_trials(deepcopy=False))
        queued = self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        self.optuna.sampler = build_sampler(self._config.sampler, self.seed, queued[0].number if queued else number)
        self.optuna.pruner = build_pruner(self._config.pruner, self.space.experiment.rounds)
        trial = self.optuna.ask()
        trial.set_user_attr(DRIVER, str(self.directory.path.resolve()))
        self.space.suggest(trial)
        weights = self.space.weights_of(trial.params)
        if weights is not None:
            trial.set_user_attr("weights", [round(w, 9) for w in weights.tolist()])
        return trial

    def twin(self, trial: Trial) -> FrozenTrial | None:
        """A complete trial with the same values, which this one would only repeat, bit for bit."""
        finished = self.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return next((one for one in finished if one.params == trial.params), None)

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        """The trial finished with these values of the objectives."""
        self.optuna.tell(trial, list(values))

    def prune(self, trial: Trial) -> None:
        """The trial was stopped."""
        self.optuna.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial, reason: str, *, lost: bool) -> None:
        """The trial failed; one that was lost is queued once more."""
        trial.set_user_attr(LOST if lost else ERROR, reason)
        self.optuna.tell(trial, state=TrialState.FAIL)
        self._retry_lost()

    def _recover(self) -> None:
        """Trials that a driver of this folder left running are lost: it is dead, or it would hold the folder."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            mine = trial.user_attrs.get(DRIVER) in (None, str(self.directory.path.resolve()))
            if mine or self._config.storage is None:
                storage = self.optuna._storage
                storage.set_trial_user_attr(trial._trial_id, LOST, "its driver died")
                self.optuna.tell(trial.number, state=TrialState.FAIL)
        self._retry_lost()

    def _retry_lost(self) -> None:
        trials = self.optuna.get_trials(deepcopy=False)
        repeated = {trial.user_attrs.get(RETRY_OF) for trial in trials}
        for trial in trials:
            lost = trial.state == TrialState.FAIL and LOST in trial.user_attrs and not counts(trial)
            if lost and trial.number not in repeated:
                params = trial.params or trial.system_attrs.get("fixed_params", {})
                again: dict[str, Any] = {RETRY_OF: trial.number}
                if DEFAULT in trial.user_attrs:
                    again[DEFAULT] = True
                self.optuna.enqueue_trial(params, user_attrs=again)

    def _enqueue_first(self) -> None:
        """The default setting before anything else, then every point of a grid."""
        first: dict[str, Any] = {DEFAULT: True}
        if not any(trial.user_attrs.get(DEFAULT) for trial in self.optuna.get_trials(deepcopy=False)):
            self.optuna.enqueue_trial(self.space.default, user_attrs=first)
        if self._config.sampler.name == "grid":
            for point in self.space.grid():
                self.optuna.enqueue_trial(point, skip_if_exists=True)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were asked for."""
    if trial.state in (TrialState.COMPLETE, TrialState.PRUNED):
        return True
    return trial.state == TrialState.FAIL and (LOST not in trial.user_attrs or RETRY_OF in trial.user_attrs)


def _asked(recorded: Any, where: str) -> Experiment:
    """What the study of a storage was made for; keys that its version of raysim did not know have their defaults."""
    try:
        return Experiment.parse(parse_json(str(recorded)), where=where)
    except (Malformed, ConfigError) as error:
        raise RunError(f"{where}: what the study was made for cannot be read ({error}); start a new study") from None


def read_study(directory: StudyDirectory) -> Study:
    """The study of a folder, to look at.

    Raises:
        ConfigError: its storage cannot be opened.
    """
    experiment = directory.experiment()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(directory.journal, experiment.tuning.storage, reading=True)
    try:
        return optuna.load_study(study_name=experiment.name, storage=storage)
    except KeyError:
        raise ConfigError(f"{directory.path}: its storage has no study {experiment.name!r}") from None


def _opened(directory: StudyDirectory, experiment: Experiment, directions: Sequence[StudyDirection]) -> Study:
    storage = open_storage(directory.journal, experiment.tuning.storage)
    return optuna.create_study(
        study_name=experiment.name, storage=storage, directions=[*directions], load_if_exists=True
    )
