"""Asynchronous timetables: M clients are out at all times, and the server takes a step with every K updates.

K > 1 is FedBuff (Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation", algorithm 1), K = 1
FedAsync (Xie, Koyejo & Gupta 2019, "Asynchronous Federated Optimization"). When an update arrives, the next client is
sent out at once: with the new version, if the update completed a step. Mean staleness is then (M - 1) / K, whatever the
devices' speeds.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.errors import ConfigError
from raysim.rounds.plan import Plan, Turns
from raysim.systems.fleet import Fleet
from raysim.systems.load import Load
from raysim.systems.timetables.timed import FleetTimetable, TimedStep

_BLOCK = 4096
"""Dispatches that are drawn at once."""
_TRIES = 64
"""Draws of a client that is not out already, before those that are at home are listed."""
_HOPELESS = 1_000
"""Updates in a row that are lost, for each client in flight, before a timetable is given up."""


class _Dispatch(NamedTuple):
    """A trip that is under way; flights are ordered by their ends, ties by the number of their dispatch."""

    ends: float
    number: int
    client: int
    base: int
    turn: int
    begins: float
    computes: float
    lost: bool


@dataclass(frozen=True, slots=True)
class Buffered(FleetTimetable):
    """A step for every `buffer` updates, of `in_flight` clients that are out at all times.

    Attributes:
        buffer: updates K of a step.
        in_flight: clients M that are out.
        cap: updates that are staler are lost.

    Example:
        >>> timetable = Buffered(fleet, Load(np.ones(100, np.int64)), seed=0, buffer=10, in_flight=30)
        >>> plan = next(timetable.plans())
        >>> plan.at, plan.clients, plan.base  # seconds, ids, versions
    """

    fleet: Fleet
    load: Load
    seed: int
    buffer: int = 10
    in_flight: int = 30
    cap: int = 100

    def steps(self, after: int = 0) -> Iterator[TimedStep]:
        """See `FleetTimetable.steps`; memory is that of those out, and a turn for each client.

        Raises:
            ConfigError: no update ever arrives in time.
        """
        dispatches = _Dispatches(self.fleet, self.load, self.seed)
        queue = [dispatches.next(0.0, 0) for _ in range(self.in_flight)]
        heapq.heapify(queue)
        step, began = 0, 0.0
        while True:
            step += 1
            taken: list[_Dispatch] = []
            lost: list[_Dispatch] = []
            while len(taken) < self.buffer:
                flight = queue[0]
                dispatches.home(flight.client)
                useful = not flight.lost and step - 1 - flight.base <= self.cap
                (taken if useful else lost).append(flight)
                if len(lost) > _HOPELESS * self.in_flight:
                    raise ConfigError(
                        f"systems: no update of the last {len(lost):,} arrived in time; raise "
                        "systems.timetable.max_staleness, or have devices there for longer"
                    )
                full = len(taken) == self.buffer
                heapq.heapreplace(queue, dispatches.next(flight.ends, step if full else step - 1))
            at = taken[-1].ends
            if step > after:
                yield self._timed(step, began, at, taken, lost)
            began = at

    def _timed(self, step: int, began: float, at: float, taken: list[_Dispatch], lost: list[_Dispatch]) -> TimedStep:
        taken = sorted(taken, key=lambda flight: (flight.client, flight.turn))
        clients, base, turn = (
            np.array([getattr(flight, name) for flight in taken], dtype=np.int64) for name in ("client", "base", "turn")
        )
        late = np.array([flight.client for flight in lost], dtype=np.int64)
        into = np.full(len(taken), step, dtype=np.int32)
        plan = Plan(step, at, clients, base.astype(np.int32), into, turn, late, _spans(lost))
        computes = np.array([flight.computes for flight in taken])
        return TimedStep(
            plan,
            began,
            self.in_flight,
            _spans(taken),
            computes,
            np.array([flight.computes for flight in lost], dtype=np.float64),
        )


def _spans(flights: list[_Dispatch]) -> Float64:
    return np.array([flight.ends - flight.begins for flight in flights], dtype=np.float64)


class _Dispatches:
    """Sends clients out, one after the other: dispatch n draws its client by the hash of (seed, n)."""

    def __init__(self, fleet: Fleet, load: Load, seed: int) -> None:
        self._fleet, self._load, self._seed = fleet, load, seed
        self._turns, self._number = Turns(), 0
        self._out: set[int] = set()
        self._block: list[tuple[int, float, float]] = []

    def home(self, client: int) -> None:
        """The client has returned, and may be drawn again."""
        self._out.discard(client)

    def next(self, when: float, version: int) -> _Dispatch:
        """Send a client that is not out, and there, with this version of the model."""
        number, self._number = self._number, self._number + 1
        client, computes, seconds = self._drawn(number)
        begins, closes = when, math.inf
        if client in self._out or self._fleet.windows is not None:
            client, begins, closes = self._another(number, when)
            computes, seconds = (float(one[0]) for one in self._times(np.array([client]), np.array([number])))
        self._out.add(client)
        ends, loses = begins + seconds, self._fleet.windows is not None and self._fleet.windows.loses
        lost = bool(self._fleet.drops(np.array([client]), number)[0]) if self._fleet.dropout else False
        turn = self._turns.next(client, version)
        return _Dispatch(ends, number, client, version, turn, begins, computes, lost or (loses and ends > closes))

    def _drawn(self, number: int) -> tuple[int, float, float]:
        """Client, seconds of computing, and seconds in all, of a dispatch's first draw; drawn in blocks."""
        place = number % _BLOCK
        if not place:
            numbers = np.arange(number, number + _BLOCK)
            clients = self._clients(numbers, 0)
            computes, seconds = self._times(clients, numbers)
            self._block = list(zip(clients.tolist(), computes.tolist(), seconds.tolist(), strict=True))
        return self._block[place]

    def _times(self, clients: Int64, numbers: Int64) -> tuple[Float64, Float64]:
        computes = self._fleet.computes(clients, self._load.work[clients], numbers)
        return computes, self._fleet.seconds(clients, computes, self._load.down_of(clients), self._load.up_of(clients))

    def _clients(self, numbers: Int64, attempt: npt.ArrayLike) -> Int64:
        drawn = keyed.bits(self._seed, keyed.Purpose.DISPATCH, numbers, attempt)
        return (drawn % np.uint64(self._fleet.population)).astype(np.int64)

    def _another(self, number: int, when: float) -> tuple[int, float, float]:
        """The client of a dispatch whose first draw may be out, or not there, when it can begin, and how long it is
        there: the first of several draws, or else the client at home who is there first, ties in a drawn order."""
        drawn = self._clients(np.array([number]), np.arange(_TRIES))
        opens, closes = self._windows(drawn, when)
        for place, client in enumerate(drawn.tolist()):
            if opens[place] <= when and client not in self._out:
                return client, when, float(closes[place])
        home = np.setdiff1d(np.arange(self._fleet.population), np.fromiter(self._out, dtype=np.int64))
        order = keyed.bits(self._seed, keyed.Purpose.DISPATCH, number, _TRIES, home)
        opens, closes = self._windows(home, when)
        begins = np.maximum(opens, when)
        soonest = np.flatnonzero(begins == begins.min())
        first = soonest[np.argmin(order[soonest])]
        return int(home[first]), float(begins[first]), float(closes[first])

    def _windows(self, clients: Int64, when: float) -> tuple[Float64, Float64]:
        """Opening and end of the window that each client is in or enters next."""
        if self._fleet.windows is None:
            return np.full(len(clients), when), np.full(len(clients), math.inf)
        return self._fleet.windows.at(clients, np.full(len(clients), when))
