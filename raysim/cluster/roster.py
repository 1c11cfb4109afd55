"""The client actors of a run: the node and the clients of each, and nodes that join and leave."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.cluster.actors import ClientActor
from raysim.cluster.references import Reference
from raysim.cluster.runtime import Runtime
from raysim.errors import PlacementError
from raysim.execution.placement.placing import Placement, Placer, Seat
from raysim.execution.placement.slots import Node
from raysim.execution.scheduling.assignment import EligibleWorkers
from raysim.execution.scheduling.speeds import Speeds
from raysim.rounds.job import Job

START_SECONDS = 600.0
"""How long actors may take to start, importing torch on a slow machine included."""

START_SECONDS_EACH = 15.0
"""And how much longer for each of them: the actors of one machine share its cores while they start."""

REFRESH_SECONDS = 1.0
"""How often at most the cluster is asked for its nodes."""

_FAILED_STARTS = 3
"""Actors that may fail to start on a node before it is left alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """Workers that are gone with their nodes, and workers that are new: they work once they have answered."""

    left: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()


def start_seconds(actors: int) -> float:
    """Seconds that `actors` actors may take to start."""
    return START_SECONDS + START_SECONDS_EACH * actors


class Roster:
    """The client actors by worker index. An index is not used again, but where clients have actors of their own: there
    it stands for the clients, and an actor that was lost with its node has a successor elsewhere, if there is room.

    Attributes:
        dedicated: whether clients have actors of their own.
    """

    def __init__(
        self, runtime: Runtime, job: Reference[Job], placer: Placer, placement: Placement, *, dedicated: bool
    ) -> None:
        """Start the actors; see `admits` for those that come later."""
        self._runtime, self._job, self._placer = runtime, job, placer
        self._shares, self.dedicated = placement.shares, dedicated
        self._actors: dict[int, Any] = {}
        self._seats: dict[int, Seat] = {}
        self._speeds = Speeds()
        self._bits: Mapping[str, Any] | None = None
        self._nodes, self._left_alone = {node.id for node in runtime.nodes()}, set[str]()
        self._failed_starts: Counter[str] = Counter()
        self._vacant = False
        self._next_refresh = 0.0
        self._note: Callable[[str], None] = lambda text: None
        self._start_all(placement)

    @property
    def workers(self) -> Collection[int]:
        """All that are not gone, whether they are up or not."""
        return self._actors.keys()

    def __contains__(self, worker: int) -> bool:
        return worker in self._actors

    def actor(self, worker: int) -> Any:
        """The actor itself."""
        return self._actors[worker]

    def node(self, worker: int) -> str:
        """The node of a worker, also of one that is gone."""
        return self._seats[worker].node

    def lives_on(self, node: str) -> bool:
        """Whether an actor is on this node."""
        return any(self._seats[worker].node == node for worker in self._actors)

    def on_note(self, note: Callable[[str], None]) -> None:
        """Call `note` with a line about each node that joins or leaves."""
        self._note = note

    def expect(self, bits: Mapping[str, Any]) -> None:
        """What the bits of the run depend on, for those that join."""
        self._bits = bits

    def ask(self, max_retries: int) -> dict[int, Any]:
        """References to what each actor's bits depend on, once all have answered.

        Raises:
            PlacementError: some are not up after `start_seconds`: other work uses the cluster.
        """
        again = {"max_task_retries": max_retries}
        calls = {worker: actor.bits.options(**again).remote() for worker, actor in self._actors.items()}
        ray, limit = self._runtime.ray, start_seconds(len(calls))
        _, late = ray.wait(list(calls.values()), num_returns=len(calls), timeout=limit)
        if late:
            free = ray.available_resources()
            raise PlacementError(
                f"{len(calls)} actors did not start within {limit:g} s; free are {free.get('CPU', 0):g} CPUs "
                f"and {free.get('GPU', 0):g} GPUs: wait for other work, or close the other simulation of this process"
            )
        return calls

    def suits(self, worker: int, group: int) -> bool:
        """Whether a worker may train clients of a class: its own, one that asks for less, or one without workers."""
        own = self._seats[worker].group
        if own == group or self._shares[own].covers(self._shares[group]):
            return True
        return not any(self._seats[other].group == group for other in self._actors)

    def eligible(self, up: Collection[int]) -> dict[int, EligibleWorkers]:
        """The workers for each class, those with the largest shares first.

        Args:
            up: workers that would begin at once. A class that has none of them waits for its own; one without
                any worker goes to all.
        """
        eligible = {}
        for group in sorted(range(len(self._shares)), key=lambda group: self._shares[group].size, reverse=True):
            own = [worker for worker in sorted(self._actors) if self._seats[worker].group == group]
            workers = [worker for worker in own if worker in up] or own or sorted(up) or sorted(self._actors)
            eligible[group] = EligibleWorkers(
                tuple(workers), self._speeds.slowness([self._seats[worker] for worker in workers])
            )
        return eligible

    def learn(self, workers: Int64, expected: Float64, seconds: Float64) -> None:
        """Learn how fast nodes are from a round's clients: who trained each, what was expected, what it took; `[n]`."""
        known = np.isin(workers, list(self._seats))
        places = [self._seats[worker] for worker in workers[known].tolist()]
        self._speeds.observe(places, expected[known], seconds[known])

    def refresh(self, *, now: bool = False) -> Change:
        """Whose nodes are gone, and actors that were started on new ones or in place of lost ones.

        Args:
            now: although the last look was a moment ago.
        """
        if not now and time.monotonic() < self._next_refresh:
            return Change()
        self._next_refresh = time.monotonic() + REFRESH_SECONDS
        nodes = self._runtime.nodes()
        up = {node.id for node in nodes}
        left = tuple(worker for worker in self._actors if self._seats[worker].node not in up)
        for worker in left:
            self.leave(worker)
        if up == self._nodes and not self._vacant:
            return Change(left)
        joined = self._refill([node for node in nodes if node.id not in self._left_alone])
        self._tell(up, left, joined)
        self._nodes, self._vacant = up, False
        return Change(left, joined)

    def leave(self, worker: int) -> None:
        """The actor is gone for good; another may take its place."""
        if self._actors.pop(worker, None) is not None:
            self._vacant = True

    def remove(self, worker: int) -> None:
        """The actor cannot work on its node, and no other could."""
        self._left_alone.add(self._seats[worker].node)
        if (actor := self._actors.pop(worker, None)) is not None:
            self._runtime.ray.kill(actor)

    def failed(self, worker: int) -> None:
        """Ray gave the actor up. A node where that happens again and again is left alone."""
        node = self._seats[worker].node
        self.leave(worker)
        self._failed_starts[node] += 1
        if self._failed_starts[node] == _FAILED_STARTS and node in self._nodes:
            self._left_alone.add(node)
            self._note(f"node {node[:12]}: {_FAILED_STARTS} actors were given up there; it gets no more")

    def admits(self, worker: int, bits: Mapping[str, Any]) -> bool:
        """Whether an actor that answered computes as the run does; else it is stopped, and its node left alone."""
        expected = bits if self._bits is None else self._bits
        other = next((key for key, value in bits.items() if value != expected[key]), None)
        if other is None:
            return True
        node = self._seats[worker].node
        if node not in self._left_alone:
            self._left_alone.add(node)
            self._note(
                f"node {node[:12]} is left out: it has {other} {bits[other]!r}, the run {expected[other]!r}, and the "
                "result would depend on who trains whom"
            )
        self._runtime.ray.kill(self._actors[worker])
        self.leave(worker)
        return False

    def close(self) -> None:
        """Stop the actors."""
        for actor in self._actors.values():
            self._runtime.ray.kill(actor)

    def _start_all(self, placement: Placement) -> None:
        """Those with large shares of GPUs have them before smaller ones may take parts of what they need."""
        before: Seat | None = None
        for worker, seat in enumerate(placement.seats):
            if before is not None and before.group != seat.group and self._shares[before.group].num_gpus > 0:
                ready = [actor.__ray_ready__.remote() for actor in self._actors.values()]
                self._runtime.ray.wait(ready, num_returns=len(ready), timeout=start_seconds(len(ready)))
            self._start(worker, seat)
            before = seat

    def _start(self, worker: int, seat: Seat) -> None:
        share = self._shares[seat.group]
        options = self._runtime.ray.remote(ClientActor).options(
            num_cpus=share.num_cpus,
            num_gpus=share.num_gpus,
            max_restarts=-1,
            max_task_retries=0,  # the pool itself gives a lease out again, under a new attempt
            scheduling_strategy=self._runtime.pinned(seat.node),
        )
        self._actors[worker] = options.remote(self._job, worker, share.num_gpus)
        self._seats[worker] = seat

    def _refill(self, nodes: list[Node]) -> tuple[int, ...]:
        there = {node.id for node in nodes}
        living = [seat for worker, seat in self._seats.items() if worker in self._actors and seat.node in there]
        seats = self._placer.refill(nodes, living)
        if self.dedicated:
            free = [worker for worker in self._seats if worker not in self._actors]
        else:
            free = list(range(len(self._seats), len(self._seats) + len(seats)))
        joined = tuple(free[: len(seats)])
        for worker, seat in zip(joined, seats, strict=False):
            self._start(worker, seat)
        return joined

    def _tell(self, up: set[str], left: tuple[int, ...], joined: tuple[int, ...]) -> None:
        for node in sorted(self._nodes - up):
            count = sum(self._seats[worker].node == node for worker in left)
            self._note(f"node {node[:12]} is gone, and {count} of the actors with it")
        for node in sorted(up - self._nodes):
            count = sum(self._seats[worker].node == node for worker in joined)
            self._note(f"node {node[:12]} has joined; {count} actors are started there")
