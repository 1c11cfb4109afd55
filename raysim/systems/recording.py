"""What is recorded of virtual time: columns of a run's rounds and of their clients, beside the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from raysim.arrays import Float64
from raysim.systems.timetables import FleetTimetable, TimedStep

SECONDS = "virtual/seconds"
"""The virtual time of a step, in seconds from the start of the run."""
ENERGY, MONEY = "virtual/joules", "virtual/money"
"""Spent until a step, by trips that contributed and by those in vain."""
STALENESS = "virtual/staleness"
LATE, UTILISATION = "virtual/late", "virtual/utilisation"


def recorded_names(timetable: FleetTimetable) -> tuple[str, ...]:
    """Names of what is recorded of a step."""
    costs = timetable.fleet.costs
    names = [SECONDS, LATE, UTILISATION]
    names += [STALENESS] if timetable.cap else []
    names += [ENERGY] if costs.joules_per_second or costs.joules_per_byte else []
    names += [MONEY] if costs.money_per_second or costs.money_per_byte else []
    return tuple(names)


class VirtualClock:
    """Goes through the steps of a timetable as they are committed, and adds up what they cost.

    Attributes:
        joules, money: spent so far.
    """

    def __init__(self, timetable: FleetTimetable, after: int = 0) -> None:
        """Begin after a step; those before it are planned once more, so that sums go on where they were."""
        self._timetable = timetable
        self._names = recorded_names(timetable)
        self._steps: Iterator[TimedStep] = timetable.steps()
        self.joules = self.money = 0.0
        for step in islice(self._steps, after):
            self.spend(step)

    @classmethod
    def going_on(
        cls, timetable: FleetTimetable, steps: Iterator[TimedStep], joules: float = 0.0, money: float = 0.0
    ) -> VirtualClock:
        """A clock of steps that are not known before the results of those before them.

        Args:
            steps: planned one by one, as they are committed.
            joules, money: spent before them.
        """
        self = cls(timetable)
        self._steps, self.joules, self.money = steps, joules, money
        return self

    def next(self) -> tuple[TimedStep, dict[str, float]]:
        """The next step, and what is recorded of it."""
        step = next(self._steps)
        self.spend(step)
        plan = step.plan
        found = {
            SECONDS: plan.at,
            LATE: float(len(plan.late)),
            UTILISATION: utilisation([step]),
            STALENESS: float(plan.staleness.mean()) if len(plan.clients) else 0.0,
            ENERGY: self.joules,
            MONEY: self.money,
        }
        return step, {name: found[name] for name in self._names}

    def of_clients(self, step: TimedStep) -> dict[str, Float64]:
        """Seconds, joules and money of each contributing trip, `[m]`."""
        fleet, load = self._timetable.fleet, self._timetable.load
        clients = step.plan.clients
        bytes = load.down_of(clients) + load.up_of(clients)
        return {
            "virtual_seconds": step.seconds,
            "virtual_joules": fleet.energy(step.computes, bytes),
            "virtual_money": fleet.money(step.computes, bytes),
        }

    def spend(self, step: TimedStep) -> None:
        """Add what a step cost."""
        fleet, load = self._timetable.fleet, self._timetable.load
        clients, late = step.plan.clients, step.plan.late
        done = load.down_of(clients) + load.up_of(clients)
        vain = np.where(step.plan.wasted > 0, load.down_of(late), 0)
        self.joules += float(fleet.energy(step.computes, done).sum() + fleet.energy(step.lost_computes, vain).sum())
        self.money += float(fleet.money(step.computes, done).sum() + fleet.money(step.lost_computes, vain).sum())


def utilisation(steps: list[TimedStep]) -> float:
    """Share of the time of all devices that were out during these steps that went into trips that contributed.

    A trip of an asynchronous timetable counts in the step that it contributes to, so that a single step may have more
    than 1; over many steps the share is at most 1.
    """
    out = sum(step.sent * (step.plan.at - step.began) for step in steps)
    return float(sum(step.seconds.sum() for step in steps) / out) if out else 0.0
