"""Who takes part where that depends on the rounds before: cohorts drawn from a state, and the state that follows.

What a selection remembers is part of a committed round. It is a value: `after` returns the next one, a checkpoint holds
it, and with it and the server's model a cohort is a pure function of (seed, round).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from raysim import keyed
from raysim.arrays import Array, Float64, Int64
from raysim.config import Experiment
from raysim.config.algorithms import CentralisedConfig
from raysim.config.server import OortConfig, PowerOfChoiceConfig
from raysim.data import Federation
from raysim.errors import ConfigError, RunError
from raysim.evaluation.ranges import train_ranges
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.vectors import read_vectors, save_vectors
from raysim.selection.cohort import cohort_size, draw_clients
from raysim.training import LocalWork

State = Mapping[str, Array]
Measure = Callable[[Iterable[EvaluationRange]], list[Evaluated]]
"""Evaluates ranges of the model that the round begins with."""

FILE = "selection.safetensors"


class Selection:
    """Draws cohorts that are functions of (seed, round) alone; the base of those that are not.

    Attributes:
        adaptive: whether cohorts depend on the rounds before, so that none can be drawn ahead.
    """

    adaptive = False

    def __init__(self, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        """For one experiment.

        Raises:
            ConfigError: its cohorts cannot be drawn from this federation.
        """
        self.experiment, self.federation, self.work = experiment, federation, work
        self.size = cohort_size(experiment, federation.population)

    def first(self) -> State:
        """What is remembered before the first round."""
        return {}

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        """Ids of a round's clients, ascending.

        Args:
            round_number: from 1.
            state: after the round before.
            measure: evaluates the broadcast model.
        """
        return draw_clients(self.experiment, self.federation, self.work.drawn_in(round_number))

    def ranges(self, clients: Int64) -> tuple[EvaluationRange, ...]:
        """What to evaluate after a round of these clients, besides what the configuration asks for."""
        return ()

    def after(self, round_number: int, state: State, evaluated: Iterable[Evaluated]) -> State:
        """What is remembered after a round, given what was evaluated after it."""
        return state

    def _with_samples(self) -> Int64:
        """Clients that have training samples.

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


class HighestLosses(Selection):
    """Power-of-choice, π_pow-d (Cho, Wang & Joshi 2022, section 4): of d candidates the m with the highest loss.

    Candidates are drawn without replacement in proportion to their samples. Each tells the mean loss of the broadcast
    model over all its training samples; equal losses go to the lower id, a loss that is NaN comes last.
    """

    adaptive = True

    def __init__(self, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        super().__init__(experiment, federation, work)
        assert isinstance(experiment.selection, PowerOfChoiceConfig)
        self._eligible = self._with_samples()
        wanted = experiment.selection.candidates
        found = len(self._eligible)
        self.candidates = min(2 * self.size, found) if wanted is None else wanted
        if self.candidates < self.size:
            raise ConfigError(
                f"selection.candidates: {self.candidates} candidates for a cohort of {self.size}; raise it to that"
            )
        if self.candidates > found:
            raise ConfigError(
                f"selection.candidates: {self.candidates} candidates, but only {found} clients have training samples; "
                "lower it"
            )

    def drawn(self, round_number: int) -> Int64:
        """The round's candidates, ascending."""
        weights = self.federation.sizes("train", self._eligible).astype(np.float64)
        seed, purpose = self.experiment.seed, keyed.Purpose.CANDIDATES
        return without_replacement(seed, purpose, round_number, self._eligible, weights, self.candidates)

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        candidates = self.drawn(round_number)
        if len(candidates) == self.size:
            return candidates
        ranges = train_ranges(self.federation, candidates, self.experiment.evaluation.batch_size)
        losses = losses_of(measure(ranges), candidates)[:, 0]
        order = np.argsort(-np.where(np.isnan(losses), -np.inf, losses), kind="stable")
        return np.sort(candidates[order[: self.size]])


def build_selection(experiment: Experiment, federation: Federation, work: LocalWork) -> Selection:
    """The selection that the configuration names.

    Raises:
        ConfigError: its cohorts cannot be drawn from this federation.
    """
    if isinstance(experiment.algorithm, CentralisedConfig):
        return Selection(experiment, federation, work)
    if isinstance(experiment.selection, PowerOfChoiceConfig):
        return HighestLosses(experiment, federation, work)
    if isinstance(experiment.selection, OortConfig):
        from raysim.selection.oort import Utilities

        return Utilities(experiment, federation, work)
    return Selection(experiment, federation, work)


def losses_of(evaluated: Iterable[Evaluated], clients: Int64) -> Float64:
    """Mean and mean squared training loss `[n, 2]` of these clients (ascending), whatever the order of arrival.

    Raises:
        RunError: one was not evaluated.
    """
    found = [(one.clients, one.sums) for one in evaluated if one.part == "train"]
    ids = np.concatenate([who for who, _ in found if who is not None])
    order = np.argsort(ids)
    if not np.array_equal(ids[order], clients):
        raise RunError("the losses of some clients are missing; nothing was selected")
    rows: Float64 = np.concatenate([np.asarray(rows) for _, rows in found])[order]
    return rows


def without_replacement(
    seed: int, purpose: keyed.Purpose, round_number: int, clients: Int64, weights: Float64, count: int
) -> Int64:
    """`count` different clients, ascending, drawn one after the other in proportion to their weights among those left.

    The keys of Efraimidis & Spirakis (2006): the largest log(u_k) / w_k. Clients of weight 0 come last, by id.
    """
    draw = np.maximum(keyed.uniform(seed, purpose, round_number, clients), 2.0**-54)
    with np.errstate(divide="ignore"):
        keys = np.log(draw) / weights
    return np.sort(clients[np.argsort(-keys, kind="stable")[:count]])


def save_state(folder: str | Path, state: State) -> None:
    """Write what is remembered into a checkpoint's folder; nothing where nothing is.

    Raises:
        OSError: the disk refuses.
    """
    if state:
        save_vectors(Path(folder) / FILE, state)


def load_state(folder: str | Path, selection: Selection) -> State:
    """What a checkpoint remembers.

    Raises:
        RunError: it is not there, or damaged.
    """
    first = selection.first()
    if not first:
        return first
    path = Path(folder) / FILE
    found = read_vectors(path)
    kinds, expected = ({name: (value.ndim, value.dtype) for name, value in of.items()} for of in (found, first))
    if kinds != expected:
        raise RunError(f"{path}: is of another selection than {selection.experiment.selection.name}")
    return found


def check_selection(experiment: Experiment, federation: Federation, work: LocalWork) -> None:
    """Refuse a selection that cannot draw from this federation.

    Raises:
        ConfigError: says why.
    """
    if build_selection(experiment, federation, work).adaptive and work.rounds > 1:
        raise ConfigError(
            f"selection: {experiment.algorithm.name} keeps each cohort for {work.rounds} rounds, and "
            f"{experiment.selection.name} chooses anew in each; set selection to uniform"
        )
