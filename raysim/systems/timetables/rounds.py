"""Timetables of rounds: the server sends a cohort out and waits for all of it, for a while, or for enough of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from raysim import keyed
from raysim.arrays import Bools, Float64, Int64
from raysim.rounds.plan import Plan
from raysim.systems.fleet import Fleet, Trips
from raysim.systems.load import Load
from raysim.systems.timetables.timed import FleetTimetable, TimedStep

Cohorts = Callable[[int], Int64]
"""The clients that are drawn for a round, by its number from 1: ids, ascending."""


@dataclass(frozen=True, slots=True)
class Rounds(FleetTimetable):
    """Rounds one after the other.

    Of a cohort those are left out who are not there when the round begins; a round for which no one is there begins
    when the first of its cohort is. Without a deadline the server waits for all trips, those of dropouts included.

    Attributes:
        cohorts: who is drawn.
        deadline: seconds of a round, at most; None is no deadline.
        partial: whether late clients send what they could do until the deadline.
        needed: updates that end a round (over-selection, Bonawitz et al. 2019, section 9); None is all of them.
    """

    fleet: Fleet
    load: Load
    cohorts: Cohorts
    deadline: float | None = None
    partial: bool = False
    needed: int | None = None

    def steps(self, after: int = 0) -> Iterator[TimedStep]:
        """See `FleetTimetable.steps`."""
        step, began = 0, 0.0
        while True:
            step += 1
            timed = self.round(step, began, self.cohorts(step))
            if step > after:
                yield timed
            began = timed.plan.at

    def round(self, step: int, began: float, cohort: Int64) -> TimedStep:
        """The round of this cohort, whose server is ready at `began`."""
        start, there = self._there(cohort, began)
        out = cohort[there]
        trips = self.fleet.trips(out, self.load, np.full(len(out), step), start)
        sent = np.argsort(keyed.bits(self.fleet.seed, keyed.Purpose.DISPATCH, step, out), kind="stable")
        at, arrived = self._closing(start, trips, np.argsort(sent))
        steps, computes, seconds = self.load.steps_of(out), trips.computes, trips.ends - trips.begins
        if self.partial and self.deadline is not None:
            cut = ~arrived & ~trips.lost
            share = self._done(out, trips, start + self.deadline)
            done = np.floor(steps * share).astype(np.int64)
            cut &= done >= 1
            arrived = arrived | cut
            steps, computes = np.where(cut, done, steps), np.where(cut, computes * share, computes)
            seconds = np.where(cut, self.deadline, seconds)
        gone = np.minimum(trips.ends, at) - trips.begins
        late = np.concatenate([cohort[~there], out[~arrived]])
        order = np.argsort(late, kind="stable")
        away = np.zeros(np.count_nonzero(~there))
        wasted = np.concatenate([away, gone[~arrived]])[order]
        vain = np.concatenate([away, np.minimum(computes, gone)[~arrived]])[order]
        fewer = steps[arrived] if self.partial else None
        plan = Plan.synchronous(step, at, out[arrived], late[order], wasted, fewer)
        return TimedStep(plan, began, len(out), seconds[arrived], computes[arrived], vain)

    def _there(self, cohort: Int64, began: float) -> tuple[float, Bools]:
        """When the round begins, and who of the cohort is there then."""
        windows = self.fleet.windows
        if windows is None or not len(cohort):
            return began, np.ones(len(cohort), dtype=bool)
        opens = windows.at(cohort, np.full(len(cohort), began))[0]
        start = max(began, float(opens.min()))
        return start, windows.there(cohort, np.full(len(cohort), start))

    def _closing(self, start: float, trips: Trips, dispatch: Int64) -> tuple[float, Bools]:
        """When the round ends, and which of its trips have arrived by then; ties by the number of their dispatch."""
        if not len(trips.ends):
            return start, trips.lost
        arrived, at = ~trips.lost, float(trips.ends.max())
        if self.needed is not None and np.count_nonzero(arrived) >= self.needed:
            first = np.lexsort((dispatch, np.where(arrived, trips.ends, np.inf)))[: self.needed]
            arrived = np.zeros(len(arrived), dtype=bool)
            arrived[first] = True
            at = float(trips.ends[first].max())
        if self.deadline is not None:
            arrived = arrived & (trips.ends <= start + self.deadline)
            at = float(trips.ends.max()) if arrived.all() else start + self.deadline
        return at, arrived

    def _done(self, out: Int64, trips: Trips, end: float) -> Float64:
        """Share of each trip's work that is done so early that its update arrives by `end`, `[n]`, at most 1."""
        messages = self.fleet.seconds(out, np.zeros(len(out)), self.load.down_of(out), self.load.up_of(out))
        left = np.maximum(end - trips.begins - messages, 0.0)
        return np.divide(left, trips.computes, out=np.ones(len(out)), where=trips.computes > left)
