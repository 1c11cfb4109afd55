"""A planned step with the times of its trips."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from raysim.arrays import Float64
from raysim.rounds.plan import Plan
from raysim.systems.fleet import Fleet
from raysim.systems.load import Load


@dataclass(frozen=True, slots=True, eq=False)
class TimedStep:
    """A planned step, and what the trips of its devices took.

    Attributes:
        plan: the step.
        began: virtual seconds when the step before it was taken; 0 before the first one.
        sent: trips that were out during the step, on average over its time or in all of a round.
        seconds: of each contributing trip, from the model's departure to the update's arrival, `[m]`.
        computes: of each that its device computes, `[m]`.
        lost_computes: seconds that the devices of `plan.late` computed in vain, `[n]`.
    """

    plan: Plan
    began: float
    sent: float
    seconds: Float64
    computes: Float64
    lost_computes: Float64


class FleetTimetable(ABC):
    """Plans the server's steps from the seed and the fleet alone.

    The same timetable yields the same steps each time, without an end. Nothing is kept on `self`.

    Attributes:
        fleet: the devices.
        load: what a trip asks of them.
        cap: the largest staleness that a plan has; 0 in synchronous rounds.
    """

    fleet: Fleet
    load: Load
    cap: int = 0

    @abstractmethod
    def steps(self, after: int = 0) -> Iterator[TimedStep]:
        """The steps after this one, in their order, with their times."""

    def plans(self, after: int = 0) -> Iterator[Plan]:
        """The plans of the steps after this one."""
        return (step.plan for step in self.steps(after))
