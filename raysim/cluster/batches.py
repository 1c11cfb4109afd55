"""Small rounds, several in one call to one actor, and the next call queued behind it: nobody waits for a message."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from raysim.cluster.pool import ClientPool, unwrapped
from raysim.cluster.runtime import Runtime
from raysim.errors import RunError
from raysim.execution import RoundDone, RoundFacts, RoundWork, ServerHandle
from raysim.execution.round_costs import RoundCosts
from raysim.execution.upcoming import Upcoming

IN_FLIGHT = 2
"""Calls at a time: the actor has the next one at hand when it is done with one."""


@dataclass(frozen=True, slots=True)
class Element:
    """The server after a round in the middle of a call: the aggregator picks it out only if somebody asks."""

    history: Any
    index: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """A call, and the references that it will fill."""

    works: list[RoundWork]
    facts: Any
    history: Any
    last: ServerHandle

    def server(self, index: int) -> ServerHandle:
        """The server after one of its rounds."""
        if index == len(self.works) - 1:
            return self.last
        element = Element(self.history, index)
        return ServerHandle(element, element)


class Batches:
    """Rounds on an actor of the driver's own node, so that what they come to outlives the loss of any other.

    Attributes:
        open: whether there is such an actor.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: ClientPool,
        costs: RoundCosts,
        columns: int,
        max_retries: int,
        resolve: Callable[[ServerHandle], ServerHandle],
    ) -> None:
        """`resolve` turns a handle with an `Element` into one with references."""
        self._runtime, self._pool, self._costs = runtime, pool, costs
        self._columns, self._max_retries, self._resolve = columns, max_retries, resolve
        self.open = pool.lives_on(runtime.home)

    def rounds(self, upcoming: Upcoming, server: ServerHandle) -> Generator[RoundDone]:
        """Finished rounds from this server on, until one is not small.

        A call whose actor died is made again, and with it those behind it: the work is pure. A call that came back
        short stopped in front of a round that fails, which then begins a call of its own and says why.

        Raises:
            ClientError: a client's own code failed.
            RunError: a round cannot be applied, or its actor died too often.
        """
        flying: deque[_Batch] = deque()
        worker, losses = self._reserve(), 0
        try:
            while worker is not None:
                self._fill(flying, worker, upcoming, server)
                if not flying:
                    return
                batch = flying.popleft()
                try:
                    facts = self._facts(batch)
                except self._pool.lost as error:
                    losses += 1
                    self._give_up(batch, losses, error)
                    _take_back([batch, *flying], upcoming)
                    flying.clear()
                    self._pool.bury(worker)
                    worker = None  # it is not idle, whatever interrupts the next line
                    worker = self._reserve()
                    continue
                losses = 0
                if len(facts) < len(batch.works):
                    _take_back([batch, *flying], upcoming, after=len(facts))
                    flying.clear()
                else:
                    self._fill(flying, worker, upcoming, batch.last)
                for index, one in enumerate(facts):
                    self._costs.saw_alone(one, len(batch.works[index].ranges))
                    server = batch.server(index)
                    yield RoundDone(one, server, arrived=0 if index else len(facts))
                    upcoming.finished()
        finally:
            if worker is not None:
                self._pool.release(worker)

    def _reserve(self) -> int | None:
        worker = self._pool.reserve(self._runtime.home)
        self.open = worker is not None
        return worker

    def _fill(self, flying: deque[_Batch], worker: int, upcoming: Upcoming, server: ServerHandle) -> None:
        """Have as many calls in flight as there should be, the first of them from this server."""
        while len(flying) < IN_FLIGHT and (works := self._costs.cut(upcoming, self._columns)):
            start = flying[-1].last if flying else self._resolve(server)
            flying.append(self._send(worker, works, start))

    def _send(self, worker: int, works: list[RoundWork], start: ServerHandle) -> _Batch:
        call = self._pool.actor(worker).train_rounds.options(num_returns=4)
        facts, history, state, model = call.remote(works, start.state, start.model)
        return _Batch(works, facts, history, ServerHandle(state, model))

    def _facts(self, batch: _Batch) -> list[RoundFacts]:
        with unwrapped(self._runtime.ray):
            facts: list[RoundFacts] = self._runtime.ray.get(batch.facts)
        return facts

    def _give_up(self, batch: _Batch, losses: int, error: Exception) -> None:
        if losses > self._max_retries:
            first, last = batch.works[0].task.round, batch.works[-1].task.round
            raise RunError(
                f"rounds {first} to {last} were lost {losses} times; their actor died each time "
                f"({str(error).splitlines()[0]})"
            ) from error


def _take_back(batches: list[_Batch], upcoming: Upcoming, *, after: int = 0) -> None:
    """All works of these calls but the first so many of the first call are to be done again."""
    works = [work for batch in batches for work in batch.works]
    upcoming.put_back(works[after:])
