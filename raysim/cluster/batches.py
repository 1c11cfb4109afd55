"""Small rounds, several in one call to one actor, the next call queued behind it: the actor waits for no message.

Where another actor of its node is idle, that one evaluates the models which the calls leave behind.
"""

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
from raysim.rounds.ranges import Evaluated, passes
from raysim.rounds.results import RoundDone, RoundFacts, ServerHandle
from raysim.rounds.task import RoundWork

IN_FLIGHT = 2
"""Calls at a time: the actor has the next one at hand when it is done with one."""

_EVALUATION = "evaluation of whole rounds"


@dataclass(frozen=True, slots=True)
class Element:
    """The server after a round in the middle of a call: the aggregator picks it out only on request."""

    history: Any
    index: int


@dataclass(frozen=True, slots=True)
class _BatchCall:
    """A call, and the references that it will fill.

    Attributes:
        sent: its rounds with the ranges that the actor itself evaluates.
        measured: what another actor evaluates of the other ranges; None where there is no such actor.
    """

    works: list[RoundWork]
    facts: Any
    history: Any
    last: ServerHandle
    sent: list[RoundWork]
    measured: Any

    @property
    def size(self) -> int:
        """Clients of all its rounds, and the rounds."""
        return sum(1 + len(work.task.clients) for work in self.works)

    @property
    def passes(self) -> int:
        """Forward passes of the other actor."""
        return sum(passes(work.ranges) - passes(own.ranges) for work, own in zip(self.works, self.sent, strict=True))

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
        *,
        personal: bool,
    ) -> None:
        """Calls to the actors of a pool.

        Args:
            resolve: turns a handle with an `Element` into one with references.
            personal: whether clients use models of their own, for which the server's state is needed.
        """
        self._runtime, self._pool, self._costs = runtime, pool, costs
        self._columns, self._book, self._resolve = columns, book, resolve
        self.refused: set[int] = set()
        roster = pool.actors.roster
        self.open = roster.lives_on(runtime.home)
        near = sum(roster.node(worker) == runtime.home for worker in roster.workers)
        costs.beside = not personal and near > 1
        self._other: int | None = None

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
                batch, asked = flying.popleft(), worker
                limit = self._pool.deadlines.of("whole rounds", batch.size)
                try:
                    facts, digests = self._facts(batch, limit)
                    if len(facts) == len(batch.works):
                        self._fill(flying, worker, upcoming, batch.last)
                    if self._other is not None:
                        asked, limit = self._other, self._pool.deadlines.of(_EVALUATION, max(1, batch.passes))
                    measured = self._measured(batch, limit)
                except LostError:
                    raise
                except (self._runtime.ray.exceptions.RayError, RaysimError) as error:
                    failure = self._failure(error, limit)
                    failures += 1
                    self._judge(batch, asked, failures, failure)
                    _take_back([batch, *flying], upcoming)
                    flying.clear()
                    self._let_go({worker}, asked, failure)
                    worker = None  # whatever interrupts the next line
                    worker = self._reserve()
                    continue
                failures = 0
                done = min(len(facts), len(measured))
                if done < len(batch.works):
                    _take_back([batch, *flying], upcoming, after=done)
                    flying.clear()
                for index in range(done):
                    server = batch.server(index, digests[index])
                    one = self._whole(batch, index, facts[index], *measured[index])
                    yield RoundDone(one, server, arrived=0 if index else done)
                    upcoming.finished()
        finally:
            self._let_go(set() if worker is None else {worker})

    def _reserve(self) -> int | None:
        worker = self._pool.reserve(self._runtime.home)
        self.open = worker is not None
        return worker

    def _let_go(self, workers: set[int], asked: int | None = None, failure: CallFailure | None = None) -> None:
        """These actors, and the one that evaluates, are idle again; one whose call failed when it is well again."""
        if self._other is not None:
            workers = workers | {self._other}
            self._other = None
        for worker in workers:
            if worker == asked and failure is not None and failure.kind == "hung":
                self._pool.actors.kill(worker)
            elif worker == asked and failure is not None and failure.gone:
                self._pool.actors.await_restart(worker)
            else:
                self._pool.actors.release(worker)

    def _evaluator(self) -> int | None:
        """Another actor of this node, to evaluate; None where none is idle."""
        if self._other is None and self._costs.beside:
            other = self._other = self._pool.actors.idle_on(self._runtime.home)
            if other is not None:
                self._pool.actors.idle.discard(other)
        return self._other

    def _fill(self, flying: deque[_BatchCall], worker: int, upcoming: Upcoming, server: ServerHandle) -> None:
        """Have as many calls in flight as there should be, the first of them from this server."""
        while len(flying) < IN_FLIGHT and (works := self._costs.cut(upcoming, self._columns, self.refused)):
            start = flying[-1].last if flying else self._resolve(server)
            flying.append(self._send(worker, works, start))

    def _send(self, worker: int, works: list[RoundWork], start: ServerHandle) -> _BatchCall:
        actors = self._pool.actors.roster
        other = self._evaluator() if any(work.ranges for work in works) else None
        own = [work.ranges if other is None else work.ranges[: self._costs.own_ranges(work)] for work in works]
        sent = [replace(work, ranges=ranges) for work, ranges in zip(works, own, strict=True)]
        call = actors.actor(worker).train_rounds.options(num_returns=4)
        facts, history, state, model = call.remote(sent, start.state, start.model)
        measured = None
        if other is not None:
            rest = [(work.task.round, work.ranges[len(ranges) :]) for work, ranges in zip(works, own, strict=True)]
            measured = actors.actor(other).evaluate_rounds.remote(rest, history)
        return _BatchCall(works, facts, history, ServerHandle(state, model), sent, measured)

    def _facts(self, batch: _BatchCall, limit: float) -> tuple[list[RoundFacts], list[ServerDigest | None]]:
        began = time.monotonic()
        with unwrapped(self._runtime.ray):
            packed: PackedFacts
            packed, digests = self._runtime.get(batch.facts, timeout=limit)
        self._pool.deadlines.saw("whole rounds", time.monotonic() - began, batch.size)
        return packed.unpacked(), digests

    def _measured(self, batch: _BatchCall, limit: float) -> list[tuple[tuple[Evaluated, ...], float]]:
        """What another actor evaluated of each round, and the seconds of it; fewer rounds where a later one failed."""
        if batch.measured is None:
            return [((), 0.0)] * len(batch.works)
        with unwrapped(self._runtime.ray):
            found: list[tuple[tuple[Evaluated, ...], float]]
            found = self._runtime.get(batch.measured, timeout=limit)
        self._pool.deadlines.saw(_EVALUATION, sum(seconds for _, seconds in found), max(1, batch.passes))
        return found

    def _whole(
        self, batch: _BatchCall, index: int, facts: RoundFacts, evaluated: tuple[Evaluated, ...], seconds: float
    ) -> RoundFacts:
        """A round's facts, with what another actor evaluated of it."""
        own = passes(batch.sent[index].ranges)
        self._costs.saw_alone(facts, own)
        row = self._book.counted(facts.row)
        if not evaluated:
            return replace(facts, row=row)
        self._costs.saw_evaluation(passes(batch.works[index].ranges) - own, seconds)
        row = replace(row, seconds={**row.seconds, "evaluate": max(seconds, row.seconds.get("evaluate", 0.0))})
        return replace(facts, row=row, evaluated=(*facts.evaluated, *evaluated))

    def _failure(self, error: Exception, limit: float) -> CallFailure:
        if isinstance(error, self._runtime.ray.exceptions.GetTimeoutError):
            return CallFailure("hung", f"no answer within {limit:.3g} s", error, gone=True)
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
