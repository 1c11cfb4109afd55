"""A cohort's training: leases that are out at the client actors, lost ones included, and their partial sums."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from raysim.arrays import Int64
from raysim.cluster.faults import first_line
from raysim.cluster.flights import Call, Flight, FlightContext, QueuedPiece
from raysim.cluster.reduction import NodeSum
from raysim.cluster.states import KeptAfter, Written
from raysim.errors import RunError
from raysim.rounds.faults import NAMED_CLIENTS, CallFailure, Fault, elsewhere, judge, left_out, part
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.task import RoundTask

Samples = Callable[[Int64], Int64]
"""Training samples of clients."""

_Key = tuple[int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Landed:
    """What came back of a lease for one step.

    Attributes:
        lease: of the clients that the step takes in.
        written: what the clients keep; of a lease that several steps take in, nothing.
    """

    lease: Lease
    report: LeaseReport
    total: NodeSum
    written: Written


class Training(Flight):
    """A cohort's leases: a first one for each worker, the rest for idle workers.

    A lease that is out is known by its first client's step and position, and its attempt. The answer for any other is
    ignored: a hung actor may answer after others have done its work.

    Attributes:
        workers: that did some of it.
        wall: seconds from the first lease given out to the last report.
    """

    def __init__(
        self,
        context: FlightContext,
        task: RoundTask,
        model: Any,
        first: dict[int, Lease],
        rest: Sequence[Lease],
        samples: Samples,
        *,
        shared: Any = None,
        kept: KeptAfter | None = None,
    ) -> None:
        """`shared` is what clients may read of the server's state, `kept` what they keep from round to round."""
        super().__init__(context, task.round, model, due=int(task.into.min()))
        self.task, self._first, self._samples = task, first, samples
        self._shared, self._kept = shared, kept
        self.queue.extend(map(QueuedPiece, rest))
        self._began = time.perf_counter()
        self.wall = 0.0
        self._out: dict[_Key, Lease] = {}
        self._landed: list[_Landed] = []
        self._left: list[LeaseReport] = []
        self._seen: dict[str, set[int]] = {}
        self.workers: set[int] = set()

    @property
    def waiting(self) -> bool:
        return bool(self._first or self.queue)

    def sums(self, into: int) -> list[NodeSum]:
        """The partial sums that came back for a step."""
        return [one.total for one in self._landed_for(into)]

    def written(self, into: int) -> list[Written]:
        """The clients' state that leases wrote for a step."""
        return [one.written for one in self._landed_for(into) if len(one.written.clients)]

    def there(self, into: int) -> bool:
        """Whether nothing that a step takes in is still to come."""
        waiting = [*self._out.values(), *self._first.values(), *(queued.piece for queued in self.queue)]
        return self.landed or not any((lease.into == into).any() for lease in waiting)

    def _landed_for(self, into: int) -> list[_Landed]:
        return [one for one in self._landed if one.report.into == into]

    def piece_for(self, worker: int, *, near: bool) -> QueuedPiece | None:
        lease = self._first.pop(worker, None)
        return super().piece_for(worker, near=near) if lease is None else QueuedPiece(lease)

    def reassign(self, up: frozenset[int]) -> None:
        super().reassign(up)
        for worker in self._first.keys() - up:  # any other worker may do it
            self.queue.append(QueuedPiece(self._first.pop(worker)))

    def limit(self, piece: Lease) -> float:
        return self.context.deadlines.training(piece.steps)

    def send(self, actor: Any, node: str, piece: Lease) -> tuple[Any, Any]:
        self._out[_key(piece)] = piece
        if self.ready_since is None:  # the actor would wait for the model
            actor.prefetch.options(num_returns=0).remote(piece.clients)
        kept = [] if self._kept is None else self._kept.read(piece.clients, node)
        train = actor.train.options(num_returns=2 + len(piece.steps_into))
        *totals, rows, reports = train.remote(piece, self.model, self._shared, *kept)
        return reports, (totals, rows)

    def receive(self, call: Call, result: list[LeaseReport]) -> bool:
        lease: Lease = call.piece
        if self._out.pop(_key(lease), None) is None:
            return False
        totals, rows = call.kept
        for report, total in zip(result, totals, strict=True):
            own = lease if len(result) == 1 else lease.going(report.into)
            written = Written(rows, report.keepers, call.node, call.worker)
            self._landed.append(_Landed(own, report, NodeSum(total, call.node), written))
            self.context.deadlines.saw_training(report)
        self.workers.add(call.worker)
        self.wall = time.perf_counter() - self._began
        return True

    def lost(self, call: Call, failure: CallFailure) -> None:
        lease: Lease = call.piece
        if self._out.pop(_key(lease), None) is None:
            return
        self.error = self.error or self.context.fatal_error(failure)
        if self.error is not None:
            return
        book = self.context.book
        failed = call.queued.failed | {call.worker}
        hopeless = self._hopeless(failure, call, failed)
        verdict = judge(lease, failure, book.policy(failure.kind), book.max_retries, hopeless=hopeless)
        if verdict.ends:
            self.error = _end(lease, failure)
        if verdict.dropped is not None:
            gone = verdict.dropped
            self._left += left_out(gone, self._samples, failure.reason)
        self.queue.extendleft(QueuedPiece(one, failed) for one in reversed(verdict.again))
        book.add(_fault(f"actor {call.worker}", lease, failure, verdict.text), again=len(verdict.again))

    def lose(self, sums: Collection[NodeSum]) -> None:
        """These partial sums are gone, with the node that had them: their leases are trained again."""
        gone = {id(total) for total in sums}
        lost = [one for one in self._landed if id(one.total) in gone]
        self._landed = [one for one in self._landed if id(one.total) not in gone]
        for one in lost:
            self.queue.appendleft(QueuedPiece(part(one.lease, slice(None))))
            failure = CallFailure("died", "a finished sum was lost with its node", RunError("lost"))
            self.context.book.add(_fault(f"node {one.total.node[:8]}", one.lease, failure, "trained again"), again=1)

    def settle(self, into: int) -> None:
        """A step's sums are in the server's state: release them, so that the next ones reuse their memory."""
        self._landed = [one for one in self._landed if one.report.into != into]

    def reports(self, into: int) -> list[LeaseReport]:
        """What came back for a step, or was left out of it."""
        found = [one.report for one in self._landed_for(into)]
        return found + [report for report in self._left if report.into == into]

    def _hopeless(self, failure: CallFailure, call: Call, failed: frozenset[int]) -> bool:
        """Whether the same would happen on every actor."""
        if failure.kind == "error":  # the same error from two actors, or twice from the only one, is the user's own
            seen = self._seen.setdefault(failure.reason, set())
            seen.add(call.worker)
            return len(seen) > 1 or (bool(call.queued.failed) and self.suited(call.piece) <= failed)
        if failure.kind == "data":
            nodes = {self.context.node_of(worker) for worker in failed}
            others = elsewhere(self.suited(call.piece), failed, self.context.node_of)
            return bool(call.queued.failed) and all(self.context.node_of(worker) in nodes for worker in others)
        return False


def _key(lease: Lease) -> _Key:
    return int(lease.into[0]), int(lease.positions[0]), lease.attempt


def _fault(who: str, lease: Lease, failure: CallFailure, then: str) -> Fault:
    clients, count = tuple(lease.clients[:NAMED_CLIENTS].tolist()), len(lease.clients)
    return Fault(failure.kind, who, failure.reason, then, lease.round, lease.attempt, clients, count)


def _end(lease: Lease, failure: CallFailure) -> Exception:
    """The error of a run that this failure ends."""
    if failure.kind in ("data", "error"):
        return failure.error
    cause = getattr(failure.error, "cause", None) or failure.error
    count, client = len(lease.clients), int(lease.clients[0])
    error = RunError(
        f"round {lease.round}: a lease of {count} clients (first {client}) was lost {lease.attempt + 1} times, the "
        f"last time because {failure.reason} ({first_line(cause)}); execution.faults.{failure.kind}=drop goes on "
        f"without the client that is to blame"
    )
    if count == 1:
        error.client = client
    error.round = lease.round
    error.__cause__ = failure.error
    return error
