"""Which worker trains which clients: longest first onto the least loaded worker, the rest to idle workers.

Clients that keep state go where it lies, unless the round would end later. A schedule changes how long a round
takes, and what travels, never its result.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from raysim.arrays import Float64, Int64

SEAL_SECONDS = 30.0
"""A worker seals its partial sum after about so much work: what a dead worker can lose."""

_WORTH_SHARING = 0.5
"""Seconds of work a worker below which handing out the rest one by one costs more than an idle worker would."""

_REST = 0.3
"""Share of the work that is not given out at the start: it goes to workers that become idle first."""

_LATER = 0.05
"""By how much later the busiest worker may be done, so that clients go where their rows are."""


@dataclass(slots=True)
class CostModel:
    """Seconds of a client by its steps: a + b·steps, both non-negative, fitted to what finished clients took."""

    fixed: float = 0.0
    per_step: float = 1e-3
    _moments: Float64 = field(default_factory=lambda: np.zeros(5))

    def observe(self, steps: npt.ArrayLike, seconds: npt.ArrayLike) -> None:
        """Learn from finished clients, `[n]` each; older rounds fade."""
        s, t = np.asarray(steps, dtype=np.float64), np.asarray(seconds, dtype=np.float64)
        s, t = s[s > 0], t[s > 0]
        if not len(s):
            return
        fresh = np.array([len(s), s.sum(), (s * s).sum(), t.sum(), (s * t).sum()])
        self._moments = 0.8 * self._moments + fresh
        n, s1, s2, t1, st = self._moments
        spread = n * s2 - s1 * s1
        slope = (n * st - s1 * t1) / spread if spread > 1e-9 * n * s2 else t1 / s1
        intercept = (t1 - slope * s1) / n
        if slope < 0:
            slope, intercept = 0.0, t1 / n
        elif intercept < 0:
            slope, intercept = st / s2, 0.0
        self.fixed, self.per_step = float(intercept), float(slope)

    def seconds(self, steps: Int64) -> Float64:
        """Estimate for each client; an empty one costs nothing."""
        return np.where(steps > 0, self.fixed + self.per_step * steps, 0.0)


@dataclass(frozen=True, slots=True)
class StateLocations:
    """Where the rows of clients lie, and where workers are. Nodes are numbers from 0; -1 is nowhere.

    Attributes:
        client: node with each client's row, `[m]`.
        last: worker that each client trained on last, `[m]`; -1 where that is not known.
        worker: node of each worker, `[workers]`.
    """

    client: Int64
    last: Int64
    worker: Int64

    def of(self, clients: Int64, workers: Sequence[int]) -> StateLocations:
        """The same for some clients and some workers, by their positions; these are numbered anew."""
        number = np.full(len(self.worker) + 1, -1)  # the last one is for workers that are not known
        number[list(workers)] = np.arange(len(workers))
        return StateLocations(self.client[clients], number[self.last[clients]], self.worker[list(workers)])


@dataclass(frozen=True, slots=True)
class Schedule:
    """Positions of the cohort: `first[w]` goes to worker w at once, `rest` to idle workers in this order."""

    first: tuple[Int64, ...]
    rest: tuple[Int64, ...]
    imbalance: float
    """Busiest worker's estimated share over the mean share, before the rest evens it out; 1 is perfect."""


def schedule(
    cost: Float64, workers: int, slowness: Float64 | None = None, locations: StateLocations | None = None
) -> Schedule:
    """Spread clients with these estimated seconds, `[m]`, over workers.

    Args:
        slowness: what each worker takes for a second of estimated work, `[workers]`; by default all take one.
        locations: where clients had better be trained. The busiest worker is done at most `_LATER` later for it, and a
            piece of the rest has clients of one node.
    """
    if slowness is not None and len(np.unique(slowness)) == 1:
        cost, slowness = cost * slowness[0], None
    longest_first = np.argsort(-cost, kind="stable")
    total = float(cost.sum())
    rest_from = len(cost)
    if workers > 1 and total / workers > _WORTH_SHARING:
        rest_from = int(np.searchsorted(np.cumsum(cost[longest_first]), (1 - _REST) * total)) + 1
    if slowness is None:
        slowness = np.ones(workers)
        first, loads = _longest_first(cost, longest_first[:rest_from], workers)
    else:
        first, loads = _earliest_finish(cost, longest_first[:rest_from], slowness)
    if locations is not None:
        latest = (1 + _LATER) * max(loads)
        at_home, their_loads = _at_home(cost, longest_first[:rest_from], slowness, locations, latest)
        if max(their_loads) <= latest:
            first, loads = at_home, their_loads
    leases = [_bounded(cost * slow, part) for slow, part in zip(slowness, first, strict=True)]
    rest = _pieces(longest_first[rest_from:], max(1, 4 * workers), None if locations is None else locations.client)
    late = [part for parts in leases for part in parts[1:]]
    mean = sum(loads) / workers
    return Schedule(
        tuple(parts[0] if parts else np.empty(0, dtype=np.int64) for parts in leases),
        tuple(late + rest),
        max(loads) / mean if mean else 1.0,
    )


def schedule_by_owner(owner: Int64) -> Schedule:
    """Each client goes to the worker that owns it, `[m]`; workers without clients get none."""
    workers = int(owner.max(initial=-1)) + 1
    first = tuple(np.flatnonzero(owner == worker) for worker in range(workers))
    return Schedule(first, (), 1.0)


def even_blocks(count: int, most: int) -> list[slice]:
    """Cut this many clients, in their order, into the fewest blocks of at most `most`, all of about one size."""
    blocks = -(-count // most)
    ends = [count * (i + 1) // blocks for i in range(blocks)]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def _longest_first(cost: Float64, order: Int64, workers: int) -> tuple[list[list[int]], list[float]]:
    parts: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0.0, worker) for worker in range(workers)]
    for position in order.tolist():
        load, worker = heapq.heappop(loads)
        parts[worker].append(position)
        heapq.heappush(loads, (load + float(cost[position]), worker))
    return parts, [load for load, _ in loads]


def _earliest_finish(cost: Float64, order: Int64, slowness: Float64) -> tuple[list[list[int]], list[float]]:
    """As `_longest_first`, where a client takes longer on some workers than on others."""
    parts: list[list[int]] = [[] for _ in slowness]
    loads = np.zeros(len(slowness))
    for position in order.tolist():
        finish = loads + cost[position] * slowness
        worker = int(finish.argmin())
        parts[worker].append(position)
        loads[worker] = finish[worker]
    return parts, loads.tolist()


def _at_home(
    cost: Float64, order: Int64, slowness: Float64, locations: StateLocations, latest: float
) -> tuple[list[list[int]], list[float]]:
    """As `_earliest_finish`, but a client stays with the worker that had it last, or else goes to one on the node of
    its row, if it is done there by `latest`."""
    parts: list[list[int]] = [[] for _ in slowness]
    loads = np.zeros(len(slowness))
    there = {
        node: np.flatnonzero(locations.worker == node) for node in np.unique(locations.worker).tolist() if node >= 0
    }
    for position in order.tolist():
        finish = loads + cost[position] * slowness
        worker, crew = int(locations.last[position]), there.get(int(locations.client[position]))
        if (worker < 0 or finish[worker] > latest) and crew is not None:
            worker = int(crew[finish[crew].argmin()])
        if worker < 0 or finish[worker] > latest:
            worker = int(finish.argmin())
        parts[worker].append(position)
        loads[worker] = finish[worker]
    return parts, loads.tolist()


def _pieces(order: Int64, count: int, home: Int64 | None) -> list[Int64]:
    """Cut clients, the longest first, into about `count` pieces; each has clients of one home, where they have any."""
    if home is None:
        return [part for part in np.array_split(order, count) if len(part)]
    parts: list[Int64] = []
    for node in np.unique(home[order]).tolist():
        here = order[home[order] == node]
        parts += np.array_split(here, min(len(here), -(-count * len(here) // len(order))))
    place = {position: i for i, position in enumerate(order.tolist())}
    return sorted(parts, key=lambda part: place[int(part[0])])


def _bounded(cost: Float64, positions: list[int]) -> list[Int64]:
    """Cut one worker's clients into leases of at most about `SEAL_SECONDS`."""
    chosen = np.asarray(positions, dtype=np.int64)
    if not len(chosen):
        return []
    piece = (np.cumsum(cost[chosen]) // SEAL_SECONDS).astype(np.int64)
    return np.split(chosen, np.flatnonzero(np.diff(piece)) + 1)
