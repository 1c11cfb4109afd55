"""The search space: numbers and choices that Optuna picks, and the experiment that each pick stands for."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.config.tuning import AsConfiguredConfig, CmaEsConfig, DimensionConfig
from raysim.errors import ConfigError
from raysim.tuning.groups import Groups
from raysim.tuning.keys import changed, find_key
from raysim.tuning.simplex import BOUNDS, Coordinates, size, to_box, to_weights

Pick = Mapping[str, Any]
"""What Optuna picked, by the name of the parameter."""

_SCALAR = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Parameter:
    """A key that is varied.

    Attributes:
        choices: what the categories stand for, where they are no plain values.
        default: the experiment's own value as Optuna sees it; None where its conditions do not hold there.
        when: the values of other keys under which it is varied.
    """

    path: str
    distribution: BaseDistribution
    choices: Mapping[str, Any]
    default: Any
    when: Mapping[str, tuple[Any, ...]]

    def value(self, picked: Any) -> Any:
        """What the experiment gets."""
        return self.choices.get(picked, picked) if isinstance(picked, str) else picked


class Space:
    """All that a study varies in an experiment.

    Attributes:
        distributions: of every parameter, by name.
        default: the pick that is the experiment as it stands.
    """

    def __init__(self, experiment: Experiment, groups: Groups | None) -> None:
        """Check every range and choice against the schema.

        Raises:
            ConfigError: a path is unknown or may not vary, a range or a choice is not what its key takes, or the
                experiment's own value is not among what is searched.
        """
        tuning = experiment.tuning
        self.experiment, self.groups = experiment, groups
        if groups is not None and any(f"{path}.".startswith("aggregation.weights.") for path in tuning.space):
            raise ConfigError("tuning.space: aggregation.weights is varied by tuning.weights already; remove one")
        self.parameters: list[Parameter] = []
        for path, dimension in tuning.space.items():
            self.parameters.append(_parameter(experiment, path, dimension, tuning.space))
        self.coordinates: Coordinates = "logs" if isinstance(tuning.sampler, CmaEsConfig) else "sticks"
        if not isinstance(tuning.weights, AsConfiguredConfig) and tuning.weights.coordinates != "auto":
            self.coordinates = tuning.weights.coordinates
        count = 0 if groups is None else size(self.coordinates, len(groups.names))
        self._simplex = [f"weights.{k}" for k in range(count)]
        low, high = BOUNDS[self.coordinates]
        self.distributions: dict[str, BaseDistribution] = {p.path: p.distribution for p in self.parameters}
        self.distributions |= {name: FloatDistribution(low, high) for name in self._simplex}
        if not self.distributions:
            raise ConfigError(
                "tuning.space: nothing is varied; name a key, e.g. `client.optimizer.lr: {low: 0.01, high: 1.0, log: "
                "true}`, or set tuning.weights"
            )
        self.default: dict[str, Any] = {p.path: p.default for p in self.parameters if p.default is not None}
        if groups is not None:
            self.default |= dict(zip(self._simplex, to_box(self.coordinates, groups.base).tolist(), strict=True))

    @property
    def conditional(self) -> bool:
        """Whether some keys are varied only under conditions."""
        return any(parameter.when for parameter in self.parameters)

    def suggest(self, trial: Trial) -> None:
        """Have the trial pick a value for every parameter whose conditions hold."""
        for parameter in self.parameters:
            if self._holds(parameter, trial.params):
                _suggest(trial, parameter.path, parameter.distribution)
        for name in self._simplex:
            _suggest(trial, name, self.distributions[name])

    def experiment_of(self, pick: Pick) -> Experiment:
        """The experiment that a pick stands for; the default pick is the experiment itself.

        Raises:
            ConfigError: values that the schema takes one by one do not go together.
        """
        if all(pick.get(name) == value for name, value in self.default.items()) and len(pick) == len(self.default):
            return self.experiment
        values = {p.path: p.value(pick[p.path]) for p in self.parameters if p.path in pick}
        if (weights := self.weights_of(pick)) is not None and self.groups is not None:
            values["aggregation.weights"] = {"name": "explicit", "table": self.groups.table(weights)}
        return changed(self.experiment, values, where="trial")

    def weights_of(self, pick: Pick) -> Float64 | None:
        """Weight of each group, `[groups]`; None where they are not varied."""
        if self.groups is None:
            return None
        return to_weights(self.coordinates, np.array([pick[name] for name in self._simplex]), len(self.groups.names))

    def grid(self) -> Iterator[dict[str, Any]]:
        """Every combination of values.

        Raises:
            ConfigError: a parameter has no steps, or conditions.
        """
        if self.conditional or self._simplex:
            what = "conditions" if self.conditional else "weights on the simplex"
            raise ConfigError(f"tuning.sampler: grid cannot search {what}; use tpe or random")
        axes = [_steps(parameter) for parameter in self.parameters]
        for values in itertools.product(*axes):
            yield dict(zip([p.path for p in self.parameters], values, strict=True))

    def _holds(self, parameter: Parameter, picked: Pick) -> bool:
        by_path = {p.path: p for p in self.parameters}
        for path, wanted in parameter.when.items():
            if path in by_path and path not in picked:
                return False  # the other key is itself out of play
            value = by_path[path].value(picked[path]) if path in by_path else find_key(self.experiment, path).value
            if value not in wanted:
                return False
        return True


def _parameter(
    experiment: Experiment, path: str, dimension: DimensionConfig, space: Mapping[str, DimensionConfig]
) -> Parameter:
    when = {other: tuple(v) if isinstance(v, list) else (v,) for other, v in dimension.when.items()}
    _check_conditions(path, when, space)
    where = "tuning.space"
    try:
        there = changed(experiment, {other: values[0] for other, values in when.items()}, where=where)
    except ConfigError as error:
        raise _at(path, "when", error) from None
    key = find_key(there, path)
    distribution: BaseDistribution
    choices: dict[str, Any] = {}
    if dimension.choices is not None:
        distribution, choices = _categories(there, path, dimension.choices)
        default = _default_choice(there, path, distribution, choices)
    else:
        distribution = _range(path, key.kind, dimension)
        for end in (distribution.low, distribution.high):
            try:
                changed(there, {path: end}, where=where)
            except ConfigError as error:
                raise _at(path, f"{end:g}", error) from None
        default = _default_number(key.value, distribution)
    if any(find_key(experiment, other).value not in values for other, values in when.items()):
        default = None
    elif default is None:
        raise ConfigError(
            f"tuning.space: {path}: the experiment's own value {_brief(key.value)} is not among what is searched; the "
            "default setting is always tried first: widen the search, or change the value"
        )
    return Parameter(path, distribution, choices, default, when)


def _check_conditions(path: str, when: Mapping[str, tuple[Any, ...]], space: Mapping[str, DimensionConfig]) -> None:
    before = list(space)[: list(space).index(path)]
    for other in when:
        if other in space and other not in before:
            raise ConfigError(f"tuning.space: {path}: its condition on {other} must come after {other} in the list")
        if other in space and space[other].choices is None:
            raise ConfigError(f"tuning.space: {path}: its condition is on {other}, which has no choices but a range")


def _range(path: str, kind: str, dimension: DimensionConfig) -> IntDistribution | FloatDistribution:
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    if kind == "other":
        raise ConfigError(f"tuning.space: {path}: does not take numbers; give choices")
    whole = all(isinstance(end, int) for end in (low, high, step or 1))
    if kind == "integer" and not whole:
        raise ConfigError(f"tuning.space: {path}: takes whole numbers; write low, high and step without a point")
    if kind == "integer" or (kind == "either" and whole):
        fitting = int(high) - (int(high) - int(low)) % int(step or 1)
        return IntDistribution(int(low), fitting, log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=dimension.log, step=None if step is None else float(step))


def _categories(
    experiment: Experiment, path: str, choices: tuple[Any, ...]
) -> tuple[CategoricalDistribution, dict[str, Any]]:
    names: list[Any] = []
    meaning: dict[str, Any] = {}
    for choice in choices:
        try:
            changed(experiment, {path: choice}, where="tuning.space")
        except ConfigError as error:
            raise _at(path, f"choice {_brief(choice)}", error) from None
        name = choice
        if not isinstance(choice, _SCALAR):
            name = json.dumps(choice, sort_keys=True)
            meaning[name] = choice
        if name in names:
            raise ConfigError(f"tuning.space: {path}: choice {_brief(choice)} is there twice; remove one")
        names.append(name)
    return CategoricalDistribution(names), meaning


def _default_choice(
    experiment: Experiment, path: str, distribution: CategoricalDistribution, choices: Mapping[str, Any]
) -> Any:
    for name in distribution.choices:
        value = choices.get(name, name) if isinstance(name, str) else name
        if changed(experiment, {path: value}, where="tuning.space") == experiment:
            return name
    return None


def _default_number(value: Any, distribution: IntDistribution | FloatDistribution) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(distribution, IntDistribution):
        inside = distribution.low <= value <= distribution.high and (value - distribution.low) % distribution.step == 0
        return int(value) if inside else None
    if not distribution.low <= value <= distribution.high:
        return None
    if distribution.step is not None:
        steps = (value - distribution.low) / distribution.step
        return float(value) if abs(steps - round(steps)) < 1e-8 else None
    return float(value)


def _steps(parameter: Parameter) -> list[Any]:
    distribution = parameter.distribution
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if distribution.step is None or distribution.log:
        raise ConfigError(f"tuning.space: {parameter.path}: the grid sampler needs a step, or choices")
    count = int((distribution.high - distribution.low) / distribution.step + 1e-8) + 1
    return [distribution.low + i * distribution.step for i in range(count)]


def _suggest(trial: Trial, name: str, distribution: BaseDistribution) -> None:
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(name, distribution.choices)
    elif isinstance(distribution, IntDistribution):
        trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    elif isinstance(distribution, FloatDistribution):
        trial.suggest_float(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _at(path: str, what: str, error: ConfigError) -> ConfigError:
    reason = str(error).splitlines()[0].removeprefix("tuning.space: ")
    return ConfigError(f"tuning.space: {path}: {what} is refused: {reason}")


def _brief(value: Any) -> str:
    text = json.dumps(value.to_dict() if hasattr(value, "to_dict") else value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"
