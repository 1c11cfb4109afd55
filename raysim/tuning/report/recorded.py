"""What a report knows of a study, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.data.build import prepare
from raysim.errors import RunError
from raysim.tuning.confirming import Confirmed, read_confirmed
from raysim.tuning.directory import StudyDirectory
from raysim.tuning.groups import Groups, form_groups
from raysim.tuning.study import read_study

WEIGHT = "weights."
"""What the coordinates of weights are called in the study."""


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """The groups whose weights were varied.

    Attributes:
        samples: share of all training samples that each holds.
        skew: total variation distance of a group's labels from those of all clients, in [0, 1]; None where labels
            have no histograms.
    """

    groups: Groups
    samples: Float64
    skew: Float64 | None


@dataclass(frozen=True, slots=True)
class RecordedStudy:
    """A study and what belongs to it.

    Attributes:
        names: of the objectives.
        upwards: for each, whether more is better.
        best: the winner; None where no trial is complete.
    """

    path: Path
    experiment: Experiment
    study: Study
    trials: Sequence[FrozenTrial]
    names: Sequence[str]
    upwards: Sequence[bool]
    best: FrozenTrial | None
    groups: GroupFacts | None
    confirmed: Confirmed | None

    def in_state(self, state: TrialState) -> list[FrozenTrial]:
        """Trials in a state, in their order."""
        return [trial for trial in self.trials if trial.state == state]

    @property
    def complete(self) -> list[FrozenTrial]:
        """The complete trials."""
        return self.in_state(TrialState.COMPLETE)

    @property
    def varied(self) -> list[str]:
        """Names of what took more than one value, keys before weights."""
        seen: dict[str, set[Any]] = {}
        for trial in self.complete:
            for name, value in self.values_of(trial).items():
                seen.setdefault(name, set()).add(value)
        return [name for name, values in seen.items() if len(values) > 1]

    def values_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """What a trial picked: values of keys, and weights of groups instead of the coordinates that they came from."""
        found = {name: value for name, value in trial.params.items() if not name.startswith(WEIGHT)}
        weights = trial.user_attrs.get("weights", [])
        names = [str(k) for k in range(len(weights))] if self.groups is None else self.groups.groups.names
        return found | {f"weight of {name}": weight for name, weight in zip(names, weights, strict=True)}

    def attribute(self, name: str) -> list[float]:
        """A cost of every trial that has it."""
        return [float(trial.user_attrs[name]) for trial in self.trials if name in trial.user_attrs]


def read_recorded(path: Path) -> RecordedStudy:
    """Read a study's folder, finished or not.

    Raises:
        RunError: it is none.
    """
    directory = StudyDirectory(path)
    if not directory.is_study(path):
        raise RunError(f"{path}: not a study (no study.yaml in it); pass a folder that `raysim tune` made")
    experiment, study = directory.experiment(), read_study(directory)
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    upwards = [direction.name == "MAXIMIZE" for direction in study.directions]
    sign = -1 if upwards[0] else 1
    front = study.best_trials if len(upwards) > 1 else complete
    best = min(front, key=lambda trial: (sign * trial.values[0], trial.number), default=None)
    names = study.metric_names or [f"objective {i}" for i in range(len(upwards))]
    return RecordedStudy(
        path, experiment, study, trials, names, upwards, best, _groups(experiment), read_confirmed(directory)
    )


def value_of(trial: FrozenTrial) -> float:
    """The first objective of a complete trial."""
    return float(trial.values[0])


def last_weights(recorded: RecordedStudy) -> Float64 | None:
    """The winner's weights."""
    attributes: Mapping[str, Any] = {} if recorded.best is None else recorded.best.user_attrs
    return np.array(attributes["weights"]) if "weights" in attributes else None


def _groups(experiment: Experiment) -> GroupFacts | None:
    if experiment.tuning.weights.name == "none" or experiment.data.source.name == "in_memory":
        return None
    federation = prepare(experiment.data, experiment.data_seed, task=experiment.training.task).open()
    seed = experiment.seed if experiment.tuning.seed is None else experiment.tuning.seed
    groups = form_groups(experiment.tuning.weights, federation, experiment.aggregation.weights, seed)
    if groups is None:
        return None
    sizes = federation.sizes("train").astype(np.float64)
    samples = np.bincount(groups.of, sizes, len(groups.names)) / sizes.sum()
    histograms = federation.histograms()
    skew: Float64 | None = None
    if histograms is not None:
        by_group = np.stack([np.bincount(groups.of, column, len(groups.names)) for column in histograms.T], axis=1)
        shares = by_group / np.maximum(by_group.sum(axis=1, keepdims=True), 1)
        overall = histograms.sum(axis=0) / max(histograms.sum(), 1)
        skew = np.abs(shares - overall).sum(axis=1) / 2
    return GroupFacts(groups, samples.astype(np.float64), skew)
