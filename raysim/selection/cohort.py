"""Who takes part in a round, and with what weight: a pure function of (seed, round)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np

from raysim import keyed
from raysim.aggregation import Weighting
from raysim.arrays import Bools, Int32, Int64
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.server import (
    ClusteredConfig,
    ExplicitWeightsConfig,
    PoissonConfig,
    RoundRobinConfig,
    UniformWeightsConfig,
    WeightsConfig,
)
from raysim.config.systems import BaseAsynchronousConfig
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.rounds.plan import Plan
from raysim.rounds.task import RoundTask
from raysim.selection.clusters import clusters_of, draw_stratified
from raysim.selection.edges import edges_of
from raysim.training import LocalWork, round_rates


def cohort_size(experiment: Experiment, population: int) -> int:
    """Clients of a round (their expected number, for Poisson sampling); the updates of an asynchronous step.

    Raises:
        ConfigError: more clients than there are.
    """
    if isinstance(experiment.algorithm, CentralisedConfig):
        return 1
    if isinstance(experiment.systems.timetable, BaseAsynchronousConfig):
        return experiment.systems.timetable.updates
    if isinstance(experiment.cohort, float):
        return max(1, round(experiment.cohort * population))
    if experiment.cohort > population:
        raise ConfigError(experiment.cohort_too_large(population))
    return experiment.cohort


def expected_weight(experiment: Experiment, federation: Federation) -> float:
    """Σ of the weights of a cohort before they are normalised, on average over uniform or Poisson draws: a denominator
    that does not depend on who was drawn. Of clients that all count 1 it is their number, with or without samples."""
    population = federation.population
    size, weights = cohort_size(experiment, population), experiment.aggregation.weights
    if isinstance(weights, UniformWeightsConfig):
        return float(size)
    every = np.arange(population)
    return size / population * float(Weighting(weights).raw(every, federation.sizes("train")).sum())


def check_weights(weights: WeightsConfig, federation: Federation) -> None:
    """Refuse a table of weights that does not fit the population.

    Raises:
        ConfigError: it names a client that does not exist, or gives no weight to any client with training samples.
    """
    if not isinstance(weights, ExplicitWeightsConfig):
        return
    population = federation.population
    strangers = [client for client in weights.table if not 0 <= client < population]
    if strangers:
        raise ConfigError(
            f"aggregation.weights.table: there is no client {strangers[0]}; clients are 0 to {population - 1}"
        )
    named = np.array([client for client, weight in weights.table.items() if weight > 0], dtype=np.int64)
    if weights.default == 0 and not federation.sizes("train", named).any():
        raise ConfigError(
            "aggregation.weights.table: no client with a weight above 0 has training samples; name others, or set "
            "aggregation.weights.default above 0"
        )


def draw_cohort(experiment: Experiment, population: int, round_number: int) -> Int64:
    """Ids of the round's clients, ascending; empty only under Poisson sampling.

    Selections that look at the clients (clustered, adaptive ones) stand in here with a uniform draw.
    """
    size = cohort_size(experiment, population)
    if isinstance(experiment.algorithm, CentralisedConfig):
        return np.zeros(1, dtype=np.int64)  # who has all samples (`raysim.data.PooledFederation`)
    if isinstance(experiment.selection, PoissonConfig):
        draw = keyed.uniform(experiment.seed, keyed.Purpose.COHORT, round_number, np.arange(population))
        return np.flatnonzero(draw < size / population)
    if size == population:
        return np.arange(population)
    if isinstance(experiment.selection, RoundRobinConfig):
        places = (np.arange(size) + (round_number - 1) * size) % population
        return np.sort(_rotation(experiment.seed, population)[places])
    if size * 8 > population:
        key = keyed.bits(experiment.seed, keyed.Purpose.COHORT, round_number, np.arange(population))
        return np.sort(np.argsort(key, kind="stable")[:size])
    return np.sort(_few(experiment.seed, round_number, size, population))


def draw_clients(experiment: Experiment, federation: Federation, round_number: int) -> Int64:
    """`draw_cohort` for selections that also look at the federation.

    Raises:
        ConfigError: its clients cannot be put into clusters.
    """
    if isinstance(experiment.selection, ClusteredConfig) and not isinstance(experiment.algorithm, CentralisedConfig):
        labels = clusters_of(experiment.seed, experiment.selection, federation)
        return draw_stratified(experiment.seed, round_number, cohort_size(experiment, len(labels)), labels)
    return draw_cohort(experiment, federation.population, round_number)


def draw_round(
    experiment: Experiment,
    federation: Federation,
    work: LocalWork,
    round_number: int,
    clients: Int64 | None = None,
    staleness: Int32 | None = None,
) -> RoundTask:
    """The round's cohort, its weights, its learning rate and, in a hierarchy, its edges.

    Args:
        experiment: says how.
        federation: the clients.
        work: what each does.
        round_number: from 1.
        clients: the cohort, where the selection is adaptive; a uniform draw stands in for it in plans.
        staleness: of the version that each starts from, where these differ, `[m]`.

    Returns:
        The task. A cohort without any weight has nothing to teach the model, so its round has no clients.
    """
    drawn = work.drawn_in(round_number)
    if clients is None:
        clients = draw_clients(experiment, federation, drawn)
    samples = federation.sizes("train", clients)
    weighting = Weighting(experiment.aggregation.weights)
    weights = weighting.base(clients, samples, staleness)
    total = float(weighting.raw(clients, samples).sum())
    if not weights.any():
        clients, samples, weights = clients[:0], samples[:0], weights[:0]
    lr, _ = round_rates(experiment, work, round_number)
    steps = work.count(samples) * (round_number % work.rounds == 0)
    share = _share(experiment, federation, clients, samples)
    if experiment.client.stragglers.share:
        late, done = _stragglers(experiment, work, drawn, clients, samples)
        if not experiment.client.stragglers.keep:
            kept = ~late
            share *= float(weights[kept].sum())
            weights = weighting.base(clients[kept], samples[kept])
            total = float(weighting.raw(clients[kept], samples[kept]).sum())
            kept[kept] = weights.any()  # all of them or, where none has weight, none
            clients, weights, steps = clients[kept], weights[: kept.sum()], steps[kept]
        else:
            steps = np.where(late, np.minimum(done, steps), steps)
    task = RoundTask.synchronous(round_number, lr, clients, weights, steps, share, total)
    edges = edges_of(experiment, federation)
    return task if edges is None else replace(task, part=edges[clients])


def draw_planned(experiment: Experiment, federation: Federation, work: LocalWork, plan: Plan) -> RoundTask:
    """What the step of a plan takes in: its clients, with the weights and local steps that they have.

    Those who start from an older version take the learning rate of the step after it (`RoundTask.round` of those who
    start together), which is the one that they could know.
    """
    staleness = plan.staleness if plan.staleness.any() else None
    task = draw_round(experiment, federation, work, plan.step, plan.clients, staleness)
    if len(task.clients) < len(plan.clients):  # none of them has weight
        return task
    return replace(task, base=plan.base, turn=plan.turn, steps=task.steps if plan.steps is None else plan.steps)


def without(task: RoundTask, clients: Collection[int]) -> RoundTask:
    """A round without some of its clients."""
    if not clients:
        return task
    left = task.only(~np.isin(task.clients, list(clients)))
    return replace(left, positions=np.arange(len(left.clients), dtype=np.int32))


def draw_first(experiment: Experiment, federation: Federation, work: LocalWork) -> RoundTask:
    """The first round in which a client takes steps, to time engines on; round 1 if none is near."""
    tasks = (draw_round(experiment, federation, work, work.rounds * (i + 1)) for i in range(_LOOKED_THROUGH))
    first = next(tasks)
    return first if first.steps.any() else next((task for task in tasks if task.steps.any()), first)


_LOOKED_THROUGH = 100
"""Rounds, in search of one with clients."""


def _stragglers(
    experiment: Experiment, work: LocalWork, round_number: int, clients: Int64, samples: Int64
) -> tuple[Bools, Int64]:
    """Which clients of the cohort straggle, and the local steps that each would have done by the end, int64 `[m]`.

    Raises:
        ConfigError: there is only one epoch (or step) to do, of which there is no part.
    """
    key = (experiment.seed, keyed.Purpose.STRAGGLERS, round_number, clients)
    count = round(experiment.client.stragglers.share * len(clients))
    late = np.isin(np.arange(len(clients)), np.argsort(keyed.bits(*key, 0), kind="stable")[:count])
    whole = work.epochs if work.steps is None else work.steps
    if whole < 2 and experiment.client.stragglers.keep:
        what = "epochs" if work.steps is None else "steps"
        raise ConfigError(f"client.stragglers: no client can do part of one; set client.{what} to 2 or more")
    part = 1 + np.floor(keyed.uniform(*key, 1) * (whole - 1)).astype(np.int64)
    done = part * (work.per_epoch(samples) if work.steps is None else 1) * work.repeats
    return late, np.where(samples > 0, done, 0)


def _share(experiment: Experiment, federation: Federation, clients: Int64, samples: Int64) -> float:
    """The cohort's share of the population's weight."""
    if len(clients) == federation.population:
        return 1.0
    config = experiment.aggregation.weights
    known = _POPULATION.get(federation)
    if known is None or known[0] != config:
        every = np.arange(federation.population)
        known = config, float(Weighting(config).raw(every, federation.sizes("train")).sum())
        _POPULATION[federation] = known
    total = float(Weighting(config).raw(clients, samples).sum())
    return min(total / known[1], 1.0) if known[1] else 0.0


_POPULATION: WeakKeyDictionary[Federation, tuple[WeightsConfig, float]] = WeakKeyDictionary()
"""The weight of each federation's whole population, which takes a look at all clients, once."""


@lru_cache(maxsize=1)
def _rotation(seed: int, population: int) -> Int64:
    """The order in which a round robin goes through the population."""
    return np.argsort(keyed.bits(seed, keyed.Purpose.ROTATION, np.arange(population)), kind="stable")


def _few(seed: int, round_number: int, size: int, population: int) -> Int64:
    """`size` different clients of many more, in time that does not grow with the population: draw, skip repeats."""
    chosen: Int64 = np.empty(0, dtype=np.int64)
    drawn = 0
    while len(chosen) < size:
        counter = np.arange(drawn, drawn + 2 * size)
        key = keyed.bits(seed, keyed.Purpose.COHORT, round_number, counter)
        candidates = np.concatenate([chosen, (key % np.uint64(population)).astype(np.int64)])
        _, first = np.unique(candidates, return_index=True)
        chosen, drawn = candidates[np.sort(first)][:size], drawn + 2 * size
    return chosen
