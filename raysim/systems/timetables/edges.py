"""The timetable of a hierarchy: edges with clocks of their own, that meet in the rounds of the cloud.

An edge begins its next round when the last of its clients has returned. In a round of the cloud edges send it their
models, and it is ready when the last one has arrived; then every edge is sent the new one, and begins when it has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64, Int32, Int64
from raysim.rounds.plan import Plan
from raysim.systems.fleet import Fleet
from raysim.systems.load import Load
from raysim.systems.timetables.rounds import Cohorts, Rounds
from raysim.systems.timetables.timed import FleetTimetable, TimedStep


@dataclass(frozen=True, slots=True, eq=False)
class EdgeRounds(FleetTimetable):
    """Rounds of all edges, numbered together: round r is the r-th of each.

    The time of a round is that of the edge that is last in it; fast edges may then be ahead of it.

    Attributes:
        cohorts: who is drawn.
        edge: of each client, `[population]`.
        every: rounds of the edges for each of the cloud.
        up, down: seconds of an edge's message to the cloud, and of the cloud's to an edge.
    """

    fleet: Fleet
    load: Load
    cohorts: Cohorts
    edge: Int32
    every: int
    up: float = 0.0
    down: float = 0.0

    def steps(self, after: int = 0) -> Iterator[TimedStep]:
        """See `FleetTimetable.steps`."""
        clocks = np.zeros(int(self.edge.max()) + 1)
        step, began = 0, 0.0
        while True:
            step += 1
            rounds = self._rounds(step, clocks)
            at = float(clocks.max())
            if step % self.every == 0:
                at += self.up
                clocks[:] = at + self.down
            if step > after:
                yield _together(step, began, at, rounds)
            began = at

    def _rounds(self, step: int, clocks: Float64) -> list[TimedStep]:
        """The round of each edge that has clients in it, and the clocks set to its end."""
        own = Rounds(self.fleet, self.load, self.cohorts)
        cohort = self.cohorts(step)
        found = []
        for edge in np.unique(self.edge[cohort]).tolist():
            timed = own.round(step, float(clocks[edge]), cohort[self.edge[cohort] == edge])
            clocks[edge] = timed.plan.at
            found.append(timed)
        return found


def _together(step: int, began: float, at: float, rounds: list[TimedStep]) -> TimedStep:
    """The rounds of several edges as one, by ascending client."""
    if not rounds:
        no_clients: Int64 = np.empty(0, dtype=np.int64)
        no_seconds: Float64 = np.empty(0)
        return TimedStep(Plan.synchronous(step, at, no_clients), began, 0, no_seconds, no_seconds, no_seconds)
    clients, late = (np.concatenate([getattr(one.plan, name) for one in rounds]) for name in ("clients", "late"))
    order, later = np.argsort(clients, kind="stable"), np.argsort(late, kind="stable")
    wasted = np.concatenate([one.plan.wasted for one in rounds])[later]
    plan = Plan.synchronous(step, at, clients[order], late[later], wasted)
    seconds = np.concatenate([one.seconds for one in rounds])[order]
    computes = np.concatenate([one.computes for one in rounds])[order]
    vain = np.concatenate([one.lost_computes for one in rounds])[later]
    return TimedStep(plan, began, sum(one.sent for one in rounds), seconds, computes, vain)
