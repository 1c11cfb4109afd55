"""What the sampler of an experiment really does, which is all that an epsilon may count on.

Derived from the configuration that runs, never from what is hoped: an amplification that the sampler does not earn is
not given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.base import CustomConfig

SamplingKind = Literal["poisson", "fixed_size", "round_robin", "everyone", "scheduled", "other"]
Adjacency = Literal["add_remove", "replace_one"]
"""Which federations an epsilon tells apart: with and without one client (one whose contribution is zero, where cohorts
follow a schedule), or with one client's data in place of another's."""

_WHY: dict[str, str] = {
    "clustered": "cohorts of clustered selection depend on the labels of all clients",
    "power_of_choice": "power of choice selects by the clients' losses: the selection itself reads private data",
    "oort": "Oort selects by the clients' losses: the selection itself reads private data",
}


@dataclass(frozen=True, slots=True)
class Recurrence:
    """How often one client can take part in the rounds of a run.

    Attributes:
        separation: rounds from one participation to the next, at least.
        most: participations, at most.
    """

    separation: int
    most: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """A sampler as an accountant sees it.

    Attributes:
        kind: `poisson`: every client by itself with probability `rate`; `fixed_size`: `cohort` of `population` without
            replacement; `round_robin`: every client once before any twice, in a fixed order; `everyone`: the whole
            population in every round; `scheduled`: see `StepSchedule`; `other`: nothing that has an epsilon.
        population: clients N.
        cohort: clients of a round m; their expected number for `poisson`.
        why: of `other` the reason, in a sentence.
    """

    kind: SamplingKind
    population: int
    cohort: int
    why: str = ""

    @property
    def rate(self) -> float:
        """The probability with which a client takes part in a round."""
        return self.cohort / self.population

    @property
    def adjacencies(self) -> tuple[Adjacency, ...]:
        """Those that an epsilon can be had for, the default first."""
        return ("replace_one",) if self.kind == "fixed_size" else ("add_remove", "replace_one")

    @property
    def amplifies(self) -> bool:
        """Whether not knowing who took part hides a client."""
        return self.kind in ("poisson", "fixed_size")

    def recurrence(self, rounds: int) -> Recurrence:
        """How often a client can take part in this many rounds."""
        if self.kind != "round_robin":
            return Recurrence(1, rounds)
        separation = self.population // self.cohort
        return Recurrence(separation, min(ceil(rounds * self.cohort / self.population), rounds))


@dataclass(frozen=True, slots=True)
class StepSchedule(Sampling):
    """The steps of an asynchronous timetable, which follow from devices and no data: who contributes when is known.

    A client that stands in a step n times moves its sum by n times the bound, so that it counts n² there. Where each
    trip adds noise of its own, it counts n.

    Attributes:
        counts: after each step, from the first, the largest Σ n² of a client, or Σ n.
    """

    counts: tuple[int, ...] = ()

    @classmethod
    def of(cls, steps: Iterable[Int64], population: int, updates: int, *, each_noised: bool = False) -> StepSchedule:
        """The schedule of these steps.

        Args:
            steps: ids of the clients that each takes in, as often as it does.
            updates: of a step.
            each_noised: whether each trip adds noise of its own, and not the step.
        """
        total, most, counts = np.zeros(population, dtype=np.int64), 0, []
        for step in steps:
            clients, times = np.unique(step, return_counts=True)
            total[clients] += times if each_noised else times**2
            most = max(most, int(total[clients].max(initial=0)))
            counts.append(most)
        return cls("scheduled", population, updates, counts=tuple(counts))

    def recurrence(self, rounds: int) -> Recurrence:
        """How often a client can take part, as `counts` has it."""
        return Recurrence(1, self.counts[rounds - 1] if rounds else 0)


def sampling_of(experiment: Experiment, population: int, cohort: int, repeats: int = 1) -> Sampling:
    """What the sampler of an experiment does.

    Args:
        experiment: whose selection runs.
        population: clients of the federation.
        cohort: clients of a round, `raysim.selection.cohort.cohort_size`.
        repeats: rounds for which the algorithm keeps a cohort.
    """
    config = experiment.selection
    if isinstance(experiment.algorithm, CentralisedConfig):
        return Sampling("other", population, cohort, "centralised training has one client, who has all samples")
    if isinstance(config, CustomConfig):
        why = f"nothing is known of the cohorts that {config.name} chooses"
        return Sampling("other", population, cohort, why)
    if config.name in _WHY:
        return Sampling("other", population, cohort, _WHY[config.name])
    if repeats > 1:
        why = f"{experiment.algorithm.name} keeps each cohort for {repeats} rounds, which are no independent samples"
        return Sampling("other", population, cohort, why)
    stragglers = experiment.client.stragglers
    if config.name == "poisson" and stragglers.share and not stragglers.keep:
        why = "which stragglers are dropped depends on who else is in a Poisson cohort; set client.stragglers.keep"
        return Sampling("other", population, cohort, why)
    if cohort == population:  # every client of a Poisson cohort of rate 1 as well
        return Sampling("everyone", population, cohort)
    kinds: dict[str, SamplingKind] = {"poisson": "poisson", "uniform": "fixed_size", "round_robin": "round_robin"}
    return Sampling(kinds[config.name], population, cohort)
