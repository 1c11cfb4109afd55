"""What a timetable comes to, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from raysim.arrays import Int64
from raysim.systems.recording import VirtualClock
from raysim.systems.timetables import FleetTimetable


@dataclass(frozen=True, slots=True)
class Forecast:
    """The first steps of a timetable in numbers.

    Attributes:
        steps: that were planned.
        seconds: virtual time of the last of them.
        step_seconds: shortest, mean and longest step.
        utilisation: share of the devices' time out that went into trips that contributed.
        staleness: mean and largest.
        trips: that contributed.
        late: trips whose work was lost, and clients of a cohort who were not there.
        versions: older versions of the model that are kept for those in flight, at most.
        left_out: clients who were drawn and never contributed, ascending.
        took_part: clients who contributed at least once.
        joules, money: of all trips.
        bytes: up and down, of the trips that contributed.
        in_time: share of the clients that could meet the deadline; None without one.
    """

    steps: int
    seconds: float
    step_seconds: tuple[float, float, float]
    utilisation: float
    staleness: tuple[float, int]
    trips: int
    late: int
    versions: int
    left_out: tuple[int, ...]
    took_part: int
    joules: float
    money: float
    bytes: int
    in_time: float | None = None

    @property
    def sentence(self) -> str:
        """The pace in one line."""
        shortest, mean, longest = self.step_seconds
        spread = "" if math.isclose(shortest, longest, rel_tol=1e-9) else f" ({shortest:,.4g} to {longest:,.4g})"
        old = f", staleness {self.staleness[0]:.3g} (at most {self.staleness[1]})" if self.staleness[1] else ""
        return f"{mean:,.4g} virtual seconds a step{spread}, devices {self.utilisation:.0%} in use{old}"


def forecast(timetable: FleetTimetable, steps: int, in_time: float | None = None) -> Forecast:
    """Plan the first steps, and add them up; memory is that of a number for each client."""
    clock = VirtualClock(timetable)
    contributed = np.zeros(timetable.load.population, dtype=bool)
    drawn = np.zeros(timetable.load.population, dtype=bool)
    lengths, useful, out, old, oldest, trips, late, at, sent = [], 0.0, 0.0, 0, 0, 0, 0, 0.0, 0
    last: dict[int, int] = {}
    for step in islice(timetable.steps(), steps):
        plan = step.plan
        contributed[plan.clients] = True
        drawn[plan.late] = True
        lengths.append(plan.at - step.began)
        useful += float(step.seconds.sum())
        out += step.sent * lengths[-1]
        last |= dict.fromkeys(np.unique(plan.base).tolist(), plan.step)
        old += int(plan.staleness.sum())
        oldest = max(oldest, int(plan.staleness.max(initial=0)))
        trips, late, at = trips + len(plan.clients), late + len(plan.late), plan.at
        bytes = timetable.load.down_of(plan.clients) + timetable.load.up_of(plan.clients)
        sent += int(np.broadcast_to(bytes, len(plan.clients)).sum())
        clock.spend(step)
    left_out: Int64 = np.flatnonzero(drawn & ~contributed)
    return Forecast(
        steps=len(lengths),
        seconds=at,
        step_seconds=(min(lengths), math.fsum(lengths) / len(lengths), max(lengths)),
        utilisation=useful / out if out else 0.0,
        staleness=(old / trips if trips else 0.0, oldest),
        trips=trips,
        late=late,
        versions=_kept_at_once(last),
        left_out=tuple(left_out.tolist()),
        took_part=int(np.count_nonzero(contributed)),
        joules=clock.joules,
        money=clock.money,
        bytes=sent,
        in_time=in_time,
    )


def _kept_at_once(last: Mapping[int, int]) -> int:
    """The most versions that are kept at the same time beside the newest one.

    Args:
        last: the last step that takes in somebody who started from a version, by its number; version v is the newest
            one until step v + 1 is taken.
    """
    change = np.zeros(max(last.values(), default=0) + 2, dtype=np.int64)
    for version, step in last.items():
        if step > version + 1:
            change[version + 1] += 1
            change[step] -= 1
    return int(np.cumsum(change).max(initial=0))
