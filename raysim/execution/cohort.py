"""Who takes part in a round, and with what weight: a pure function of (seed, round)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.aggregation import Weighting
from raysim.config import Experiment
from raysim.config.server import Poisson
from raysim.data import Federation
from raysim.errors import ConfigError, RunError
from raysim.execution.work import RoundTask
from raysim.training import LocalWork, lr_factor

Int64 = npt.NDArray[np.int64]


def cohort_size(experiment: Experiment, population: int) -> int:
    """Clients of a round (their expected number, for Poisson sampling).

    Raises:
        ConfigError: more clients than there are.
    """
    if isinstance(experiment.cohort, float):
        return max(1, round(experiment.cohort * population))
    if experiment.cohort > population:
        raise ConfigError(f"cohort ({experiment.cohort}) is larger than the population ({population} clients)")
    return experiment.cohort


def draw_cohort(experiment: Experiment, population: int, round_number: int) -> Int64:
    """Ids of the round's clients, ascending; empty only under Poisson sampling."""
    size = cohort_size(experiment, population)
    if isinstance(experiment.selection, Poisson):
        draw = keyed.uniform(experiment.seed, keyed.Purpose.COHORT, round_number, np.arange(population))
        return np.flatnonzero(draw < size / population)
    if size == population:
        return np.arange(population)
    if size * 8 > population:
        key = keyed.bits(experiment.seed, keyed.Purpose.COHORT, round_number, np.arange(population))
        return np.sort(np.argsort(key, kind="stable")[:size])
    return np.sort(_few(experiment.seed, round_number, size, population))


def draw_round(experiment: Experiment, federation: Federation, work: LocalWork, round_number: int) -> RoundTask:
    """The round's cohort, its weights and its learning rate.

    Raises:
        RunError: the cohort is not empty, but its weights sum to zero.
    """
    clients = draw_cohort(experiment, federation.population, round_number)
    samples = federation.sizes("train", clients)
    weighting = Weighting(experiment.aggregation.weights)
    weights = weighting.base(clients, samples)
    if len(clients) and not weights.any():
        scheme = experiment.aggregation.weights.name
        raise RunError(f"round {round_number}: the {scheme} weights of its {len(clients)} clients sum to zero")
    lr = experiment.client.optimizer.lr * lr_factor(experiment.client.schedule, round_number, experiment.rounds)
    rows = weighting.keeps_rows(round_number)
    return RoundTask(round_number, lr, clients, weights, work.count(samples), rows)


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
