"""The contract of a selection: the cohort of each round, and what is remembered from round to round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Array, Float64, Int64
from raysim.config import Experiment
from raysim.data import Federation
from raysim.errors import ConfigError, RunError
from raysim.evaluation.ranges import train_ranges
from raysim.rounds.ranges import Evaluated, EvaluationRange, TrainRange
from raysim.selection.cohort import cohort_size
from raysim.training import LocalWork

State = Mapping[str, Array]
Measure = Callable[[Iterable[EvaluationRange]], list[Evaluated]]
"""Evaluates ranges under the model that the round begins with."""


class Selection(ABC):
    """Chooses the clients of every round.

    A subclass writes `cohort`. One whose cohorts depend on the rounds before sets `adaptive` and writes what else it
    needs: `first` and `after` for a state, `ranges` for losses that are computed after a round.

    **Pure.** Nothing is kept on `self` after the constructor, and no global generator is read. What lasts is the state,
    a value of named arrays: `after` returns the next one and changes nothing in place. It is part of a committed round
    and of every checkpoint, so that a resumed run selects as an unbroken one.

    **Keyed.** Random choices are functions of (seed, round, client): `self.uniform(round_number, clients)`.

    Attributes:
        adaptive: whether cohorts depend on the rounds before. Each round then waits for the one before it; without it
            several rounds are drawn ahead, and neither a state nor losses are to be had.
        experiment: the configuration.
        federation: the clients: `population`, `sizes("train")`, `histograms()`.
        work: what a client does in a round; `work.count(sizes)` are its local steps.
        size: clients of a cohort, at most.

    Example:
        The next clients in turn:

        >>> class InTurn(Selection):
        ...     def cohort(self, round_number, state, measure):
        ...         first = (round_number - 1) * self.size
        ...         return np.sort((first + np.arange(self.size)) % self.federation.population)

        One with a state, which checkpoints hold, is in `docs/python-api.md`.
    """

    adaptive: bool = False

    def __init__(self, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        """For one experiment; a subclass named by import string also takes its `args`, by keyword.

        Raises:
            ConfigError: its cohorts cannot be drawn from this federation.
        """
        self.experiment, self.federation, self.work = experiment, federation, work
        self.size = cohort_size(experiment, federation.population)

    def first(self) -> State:
        """The state before the first round. Its names, types and numbers of dimensions stay; lengths may change."""
        return {}

    @abstractmethod
    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        """Ids of a round's clients, int64 `[m]`, ascending, each once; m is at most `size` and may be 0.

        Args:
            round_number: from 1; counts draws where an algorithm keeps each cohort for several rounds.
            state: after the round before.
            measure: `measure(self.train_ranges(clients))` computes the losses of clients under the broadcast model;
                `losses_of` reads them.
        """

    def ranges(self, clients: Int64) -> tuple[TrainRange, ...]:
        """Training losses to compute under the model that a round of these clients made, for `after`."""
        return ()

    def after(self, round_number: int, state: State, clients: Int64, evaluated: Iterable[Evaluated]) -> State:
        """The state after a round.

        Args:
            round_number: the round.
            state: before it.
            clients: its cohort, without stragglers that were dropped; empty where no client had weight.
            evaluated: all that was computed under its model, `ranges` among it.
        """
        return state

    def uniform(self, round_number: int, *key: npt.ArrayLike) -> Float64:
        """Uniform numbers in [0, 1) keyed by the seed, the round and `key`: client ids, counters."""
        return keyed.uniform(self.experiment.seed, keyed.Purpose.COHORT, round_number, *key)

    def train_ranges(self, clients: Int64) -> tuple[TrainRange, ...]:
        """Those of these clients (ascending) that have training samples, as ranges to compute their losses over."""
        found = clients[self.federation.sizes("train", clients) > 0]
        return tuple(train_ranges(self.federation, found, self.experiment.evaluation.batch_size))

    def with_samples(self) -> Int64:
        """Clients that have training samples, ascending.

        Raises:
            ConfigError: they are fewer than a cohort.
        """
        clients = np.flatnonzero(self.federation.sizes("train"))
        if len(clients) < self.size:
            raise ConfigError(
                f"cohort: {self.experiment.selection.name} chooses among clients with training samples, and only "
                f"{len(clients)} have some; lower cohort to that"
            )
        return clients


def losses_of(evaluated: Iterable[Evaluated], clients: Int64) -> Float64:
    """Mean and mean squared training loss `[n, 2]` of these clients (ascending), whatever the order of arrival.

    Raises:
        RunError: one was not evaluated.
    """
    found = [(one.clients, one.sums) for one in evaluated if one.part == "train"]
    ids = np.concatenate([clients[:0], *[who for who, _ in found if who is not None]])
    order = np.argsort(ids)
    if not np.array_equal(ids[order], clients):
        raise RunError("the losses of some clients are missing; nothing was selected")
    rows: Float64 = np.concatenate([np.empty((0, 2)), *[np.asarray(rows) for _, rows in found]])[order]
    return rows
