"""Oort (Lai, Zhu, Madhyastha & Chowdhury 2021, algorithm 1): clients that teach the most in the time that they take.

The utility of a client that took part, with t_i the time that it takes and T the preferred one:

    Util(i) = (|B_i| √(1/|B_i| Σ loss²) + √(0.1 ln R / L_i)) · (T / t_i)^α   (the last factor only where T < t_i)

|B_i| √… is clipped at a percentile of those known; L_i is the round in which it last took part. A share ε of the
cohort is of clients that never took part, drawn in proportion to their speed 1 / t_i. The others are drawn in
proportion to their utility, among those with at least c times the utility of the last that would be in by rank. The
pacer raises T, a percentile of the clients' times, where the cohorts' utilities of a window of rounds sum to less than
in the one before.

Time is virtual seconds of a client's trip where there are devices, without what varies from trip to trip, else local
steps; clients that were late or dropped out are as if they had not been drawn.

Otherwise than in the paper: time is nothing that a clock says, or the cohort would depend on the machine; losses are
those of the model that the round made, not those met on the way; and no client is barred for taking part often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from copy import copy

import numpy as np

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.config import Experiment
from raysim.config.server import OortConfig
from raysim.data import Federation
from raysim.rounds.ranges import Evaluated, TrainRange
from raysim.selection.base import Measure, Selection, State, losses_of
from raysim.selection.sampling import without_replacement
from raysim.systems import Rounds, TimedStep, VirtualClock
from raysim.training import LocalWork


class Oort(Selection):
    """Oort. Remembers of each client that took part its id, its statistical utility and the round; of the pacer the
    utilities of the last two windows of rounds, and its percentile; of virtual time the seconds, joules and money that
    the rounds took.

    Attributes:
        timetable: of the clients' devices; None where there are none.
    """

    adaptive = True
    timetable: Rounds | None = None

    def __init__(self, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        super().__init__(experiment, federation, work)
        assert isinstance(experiment.selection, OortConfig)
        self.config = experiment.selection
        self._eligible = self.with_samples()
        self._times = work.count(federation.sizes("train", self._eligible)).astype(np.float64)

    def on(self, timetable: Rounds) -> Oort:
        """The same selection on devices, whose trips take virtual time.

        Args:
            timetable: plans the round of a cohort.
        """
        found = copy(self)
        found.timetable, fleet, load = timetable, timetable.fleet, timetable.load
        computes = load.work[self._eligible] / fleet.speed[self._eligible]
        found._times = fleet.seconds(self._eligible, computes, load.down_of(self._eligible), load.up_of(self._eligible))
        return found

    def step(self, round_number: int, state: State) -> TimedStep:
        """A round's cohort on its way, in virtual time."""
        assert self.timetable is not None, "there are devices"
        return self.timetable.round(round_number, float(state["virtual"][0]), self._chosen(round_number, state))

    def first(self) -> State:
        no_clients = np.empty(0, dtype=np.int64)
        none = np.empty(0)
        percentile = np.array([self.config.percentile])
        virtual = {} if self.timetable is None else {"virtual": np.zeros(3)}
        found = {"clients": no_clients, "utility": none, "last": no_clients, "sums": none, "percentile": percentile}
        return found | virtual

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        return self._chosen(round_number, state)

    def _chosen(self, round_number: int, state: State) -> Int64:
        explored: Int64 = state["clients"]
        rest = np.setdiff1d(self._eligible, explored, assume_unique=True)
        share = self.config.exploration * self.config.exploration_decay ** (round_number - 1)
        wanted = round(max(share, self.config.exploration_floor) * self.size)
        new = min(max(wanted, self.size - len(explored)), len(rest))
        seed = self.experiment.seed
        fast = without_replacement(seed, keyed.Purpose.EXPLORATION, round_number, rest, 1 / self._times_of(rest), new)
        utility = self.utility(round_number, state)
        count = self.size - new
        chosen = explored[:0]
        if count:
            cut = self.config.cutoff * np.sort(utility)[::-1][count - 1]
            admitted = utility >= cut
            chosen = without_replacement(
                seed, keyed.Purpose.COHORT, round_number, explored[admitted], utility[admitted], count
            )
        return np.sort(np.concatenate([fast, chosen]))

    def utility(self, round_number: int, state: State) -> Float64:
        """Util of each client that took part, as of this round, `[n]`."""
        known: Float64 = state["utility"]
        if not len(known):
            return known
        clipped = np.minimum(known, np.percentile(known, self.config.clip))
        util = clipped + np.sqrt(0.1 * math.log(round_number) / state["last"])
        preferred = float(np.percentile(self._times, float(state["percentile"][0])))
        return np.asarray(util * np.minimum(1.0, preferred / self._times_of(state["clients"])) ** self.config.alpha)

    def ranges(self, clients: Int64) -> tuple[TrainRange, ...]:
        return self.train_ranges(clients)

    def after(self, round_number: int, state: State, clients: Int64, evaluated: Iterable[Evaluated]) -> State:
        state = {**state, **self._virtual(round_number, state)}
        clients = clients[np.isin(clients, self._eligible)]
        if not len(clients):
            return state
        squares = losses_of(evaluated, clients)[:, 1]
        utility = self.federation.sizes("train", clients) * np.sqrt(squares)
        utility = np.where(np.isfinite(utility), utility, 0.0)
        stay = ~np.isin(state["clients"], clients)
        all_clients = np.concatenate([state["clients"][stay], clients])
        order = np.argsort(all_clients)
        window = self.config.window
        sums = np.append(state["sums"], math.fsum(utility.tolist()))[-2 * window :]
        percentile = float(state["percentile"][0])
        before, lately = math.fsum(sums[:window].tolist()), math.fsum(sums[window:].tolist())
        if len(sums) == 2 * window and round_number % window == 0 and before > lately:
            percentile = min(100.0, percentile + self.config.pacer_step)
        return {
            **state,
            "clients": all_clients[order],
            "utility": np.concatenate([state["utility"][stay], utility])[order],
            "last": np.concatenate([state["last"][stay], np.full(len(clients), round_number)])[order],
            "sums": sums,
            "percentile": np.array([percentile]),
        }

    def _virtual(self, round_number: int, state: State) -> State:
        """Virtual time after a round, and what was spent until then."""
        if self.timetable is None:
            return {}
        step = self.step(round_number, state)
        clock = VirtualClock.going_on(self.timetable, iter([step]), *state["virtual"][1:].tolist())
        clock.next()
        return {"virtual": np.array([step.plan.at, clock.joules, clock.money])}

    def _times_of(self, clients: Int64) -> Float64:
        times: Float64 = self._times[np.searchsorted(self._eligible, clients)]
        return times
