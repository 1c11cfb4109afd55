"""Samplers and pruners by name.

A sampler is built anew for every trial from (seed, number of the trial), and learns from the finished trials alone:
what a trial picks does not depend on whether the driver was started again in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from raysim.arrays import Float64
from raysim.config.tuning import (
    AshaConfig,
    CmaEsConfig,
    GaussianProcessConfig,
    HyperbandConfig,
    MedianConfig,
    NoPrunerConfig,
    Nsga2Config,
    PrunerConfig,
    SamplerConfig,
    TpeConfig,
)
from raysim.errors import ConfigError
from raysim.keyed import Purpose, integer
from raysim.tuning.space import Space


def build_sampler(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """The sampler of one trial."""
    key = integer(seed, Purpose.STUDY, number) % 2**31
    if isinstance(config, TpeConfig):
        return TPESampler(n_startup_trials=config.startup, seed=key, constant_liar=True)
    if isinstance(config, GaussianProcessConfig):
        return GPSampler(n_startup_trials=config.startup, seed=key, warn_independent_sampling=False)
    if isinstance(config, Nsga2Config):
        return NSGAIISampler(population_size=config.population, seed=key)
    if isinstance(config, CmaEsConfig):
        return ReplayedCmaEs(config.population, key)
    return RandomSampler(seed=key)  # also beside a grid, whose points are all in the queue


def build_pruner(config: PrunerConfig, rounds: int) -> BasePruner:
    """The pruner for trials of `rounds` rounds."""
    if isinstance(config, MedianConfig):
        return MedianPruner(n_startup_trials=config.startup, n_warmup_steps=config.warmup)
    if isinstance(config, AshaConfig):
        return SuccessiveHalvingPruner(min_resource=config.rounds, reduction_factor=config.reduction)
    if isinstance(config, HyperbandConfig):
        return HyperbandPruner(
            min_resource=config.rounds, max_resource=max(rounds, config.rounds), reduction_factor=config.reduction
        )
    return NopPruner()


def check_sampling(sampler: SamplerConfig, pruner: PrunerConfig, space: Space, objectives: int) -> None:
    """Refuse combinations that do not work.

    Raises:
        ConfigError: one line.
    """
    if objectives > 1 and not isinstance(pruner, NoPrunerConfig):
        raise ConfigError(
            f"tuning.pruner: {pruner.name} stops trials of a single objective only, and there are {objectives}; set it "
            "to none, or leave one objective"
        )
    if isinstance(sampler, CmaEsConfig):
        _check_cma_es(space, objectives)
    if sampler.name == "grid":
        list(space.grid())


def _check_cma_es(space: Space, objectives: int) -> None:
    if objectives > 1:
        raise ConfigError("tuning.sampler: cma_es has a single objective; use nsga2 or tpe")
    for name, distribution in space.distributions.items():
        if isinstance(distribution, CategoricalDistribution):
            raise ConfigError(f"tuning.sampler: cma_es cannot choose ({name} has choices); use tpe")
    if space.conditional or len(space.distributions) < 2:
        what = "conditions" if space.conditional else "a single number"
        raise ConfigError(f"tuning.sampler: cma_es cannot search {what}; use tpe")
    try:
        import cmaes  # noqa: F401
    except ImportError:
        raise ConfigError(
            "tuning.sampler: cma_es needs the package cmaes; install it with `pip install 'raysim-fl[tune]'`"
        ) from None


class ReplayedCmaEs(BaseSampler):
    """CMA-ES (Hansen 2016, arXiv:1604.00772) whose state is made again from the finished trials, in their order.

    Optuna's own sampler pickles the state into the study, and unpickles whatever it finds there; this one only reads
    numbers. Trials enter generations in the order in which they finished.
    """

    def __init__(self, population: int | None, seed: int) -> None:
        self._population, self._seed = population, seed
        self._random = RandomSampler(seed=seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All parameters of the first finished trial: all are numbers, and none is conditional."""
        finished = _finished(study)
        return dict(sorted(finished[0].distributions.items())) if finished else {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The next point."""
        if not search_space:
            return {}
        from cmaes import CMA

        finished = _finished(study)
        count = len(search_space)
        bounds = np.tile([0.0, 1.0], (count, 1))
        optimizer = CMA(
            mean=np.clip(_to_unit(finished[0].params, search_space), 0.02, 0.98),
            sigma=1 / 6,
            bounds=bounds,
            seed=self._seed,
            n_max_resampling=10 * count,
            population_size=self._population,
        )
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        points = [(_to_unit(one.params, search_space), sign * float(one.value or 0.0)) for one in finished[1:]]
        each = optimizer.population_size
        for start in range(0, len(points) - each + 1, each):
            optimizer.tell(points[start : start + each])
        return _from_unit(optimizer.ask(), search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """For a first trial whose values are not given."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _finished(study: Study) -> list[FrozenTrial]:
    states = (TrialState.COMPLETE, TrialState.PRUNED)
    found = [one for one in study.get_trials(deepcopy=False, states=states) if one.value is not None]
    return sorted(found, key=lambda one: (one.datetime_complete is None, one.datetime_complete, one.number))


def _to_unit(params: Mapping[str, Any], space: Mapping[str, BaseDistribution]) -> Float64:
    units = []
    for name, distribution in space.items():
        low, high = _ends(distribution)
        units.append((_scaled(params[name], distribution) - low) / (high - low))
    return np.array(units)


def _from_unit(point: Sequence[float] | Float64, space: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for (name, distribution), unit in zip(space.items(), point, strict=True):
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        low, high = _ends(distribution)
        value = low + float(unit) * (high - low)
        value = float(np.exp(value)) if distribution.log else value
        if distribution.step is not None:
            value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
        value = min(max(value, distribution.low), distribution.high)
        found[name] = round(value) if isinstance(distribution, IntDistribution) else float(value)
    return found


def _ends(distribution: BaseDistribution) -> tuple[float, float]:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return _scaled(distribution.low, distribution), _scaled(distribution.high, distribution)


def _scaled(value: float, distribution: BaseDistribution) -> float:
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return float(np.log(value)) if distribution.log else float(value)
