"""Small rounds, several in one call to one actor, the next call queued behind it: the actor waits for no message."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

from raysim.cluster.faults import FaultBook, failure_of, first_line, unwrapped
from raysim.cluster.pool import ClientPool
from raysim.cluster.runtime import Runtime
from raysim.errors import LostError, RaysimError, RunError
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.rounds.digests import Known, ServerDigest
from raysim.rounds.facts import PackedFacts
from raysim.rounds.faults import CallFailure, Fault, reason_of, to_blame
from raysim.rounds.ranges import passes
from raysim.rounds.results import RoundDone, RoundFacts, ServerHandle
from raysim.rounds.task import RoundWork

IN_FLIGHT = 2
"""Calls at a time: the actor has the next one at hand when it is done with one."""


@dataclass(frozen=True, slots=True)
class Element:
    """The server after a round in the middle of a call: the aggregator picks it out only on request."""

    history: Any
    index: int


@dataclass(frozen=True, slots=True)
class _BatchCall:
    """A call, and the references that it will fill.

    Attributes:
        size: clients of all its rounds.
        limit: seconds that it may take.
    """

    works: list[RoundWork]
    facts: Any
    history: Any
    last: ServerHandle
    size: int
    limit: float

    def server(self, index: int, digest: ServerDigest | None) -> ServerHandle:
        """The server after one of its rounds."""
        known = None if digest is None else Known(digest)
        if index == len(self.works) - 1:
            return replace(self.last, digest=known)
        element = Element(self.history, index)
        return ServerHandle(element, element, digest=known)


class Batches:
    """Rounds on an actor of the driver's own node, so that their results survive the loss of any other.

    Attributes:
        open: whether there is such an actor.
        refused: rounds that failed here and are shared instead, which finds the client at fault.
    """

    def __init__(
        self,
        runtime: Runtime,
        pool: ClientPool,
        costs: RoundCosts,
        columns: int,
        book: FaultBook,
        resolve: Callable[[ServerHandle], ServerHandle],
    ) -> None:
        """`resolve` turns a handle with an `Element` into one with references."""
        self._runtime, self._pool, self._costs = runtime, pool, costs
        self._columns, self._book, self._resolve = columns, book, resolve
        self.refused: set[int] = set()
        self.open = pool.actors.roster.lives_on(runtime.home)

    def rounds(self, upcoming: Upcoming, server: ServerHandle) -> Generator[RoundDone]:
        """Finished rounds from this server on, until one is not small.

        A call whose actor died or hangs is made again, and with it those behind it: the work is pure. What is lost a
        second time, or fails, is refused and shared. A call that came back short stopped in front of a round that
        fails, which then begins a call of its own.

        Raises:
            RunError: a round cannot be applied, or its actor died too often.
        """
        flying: deque[_BatchCall] = deque()
        worker, failures = self._reserve(), 0
        try:
            while worker is not None:
                self._fill(flying, worker, upcoming, server)
                if not flying:
                    return
                batch = flying.popleft()
                try:
                    facts, digests = self._facts(batch)
                except LostError:
                    raise
                except (self._runtime.ray.exceptions.RayError, RaysimError) as error:
                    failure = self._failure(error, batch)
                    failures += 1
                    self._judge(batch, worker, failures, failure)
                    _take_back([batch, *flying], upcoming)
                    flying.clear()
                    if failure.kind == "hung":
                        self._pool.actors.kill(worker)
                    elif failure.gone:
                        self._pool.actors.await_restart(worker)
                    else:
                        self._pool.actors.release(worker)
                    worker = None  # whatever interrupts the next line
                    worker = self._reserve()
                    continue
                failures = 0
                if len(facts) < len(batch.works):
                    _take_back([batch, *flying], upcoming, after=len(facts))
                    flying.clear()
                else:
                    self._fill(flying, worker, upcoming, batch.last)
                for index, (one, digest) in enumerate(zip(facts, digests, strict=True)):
                    self._costs.saw_alone(one, passes(batch.works[index].ranges))
                    server = batch.server(index, digest)
                    row = self._book.counted(one.row)
                    yield RoundDone(replace(one, row=row), server, arrived=0 if index else len(facts))
                    upcoming.finished()
        finally:
            if worker is not None:
                self._pool.actors.release(worker)

    def _reserve(self) -> int | None:
        worker = self._pool.reserve(self._runtime.home)
        self.open = worker is not None
        return worker

    def _fill(self, flying: deque[_BatchCall], worker: int, upcoming: Upcoming, server: ServerHandle) -> None:
        """Have as many calls in flight as there should be, the first of them from this server."""
        while len(flying) < IN_FLIGHT and (works := self._costs.cut(upcoming, self._columns, self.refused)):
            start = flying[-1].last if flying else self._resolve(server)
            flying.append(self._send(worker, works, start))

    def _send(self, worker: int, works: list[RoundWork], start: ServerHandle) -> _BatchCall:
        call = self._pool.actors.roster.actor(worker).train_rounds.options(num_returns=4)
        facts, history, state, model = call.remote(works, start.state, start.model)
        size = sum(1 + len(work.task.clients) for work in works)
        limit = self._pool.deadlines.of("whole rounds", size)
        return _BatchCall(works, facts, history, ServerHandle(state, model), size, limit)

    def _facts(self, batch: _BatchCall) -> tuple[list[RoundFacts], list[ServerDigest | None]]:
        began = time.monotonic()
        with unwrapped(self._runtime.ray):
            packed: PackedFacts
            packed, digests = self._runtime.get(batch.facts, timeout=batch.limit)
        self._pool.deadlines.saw("whole rounds", time.monotonic() - began, batch.size)
        return packed.unpacked(), digests

    def _failure(self, error: Exception, batch: _BatchCall) -> CallFailure:
        if isinstance(error, self._runtime.ray.exceptions.GetTimeoutError):
            return CallFailure("hung", f"no answer within {batch.limit:.3g} s", error, gone=True)
        if isinstance(error, RaysimError):
            return CallFailure(to_blame(error), reason_of(error), error, error.client)
        return failure_of(self._runtime.ray, error)

    def _judge(self, batch: _BatchCall, worker: int, failures: int, failure: CallFailure) -> None:
        """Decide whether the call is made again, its first round shared, or the run ended."""
        first, last = batch.works[0].task.round, batch.works[-1].task.round
        policy = self._book.policy(failure.kind)
        raised = failure.kind in ("data", "error")
        ends = policy == "fail" or (failures > self._book.max_retries and not raised)
        shared = raised or policy == "drop" or failures > 1
        then = "the run ends" if ends else "shared among all actors" if shared else "made again"
        who = f"actor {worker} with rounds {first} to {last}"
        self._book.add(Fault(failure.kind, who, failure.reason, then, first, failures - 1), again=int(not ends))
        if ends and raised:
            raise failure.error
        if ends:
            why = "their actor died each time" if failure.kind == "died" else f"the last time because {failure.reason}"
            raise RunError(
                f"rounds {first} to {last} were lost {failures} times; {why} ({first_line(failure.error)})"
            ) from failure.error
        if shared:
            self.refused.add(first)


def _take_back(batches: list[_BatchCall], upcoming: Upcoming, *, after: int = 0) -> None:
    """Put back all works of these calls but the first `done` of the first call."""
    works = [work for batch in batches for work in batch.works]
    upcoming.put_back(works[after:])
