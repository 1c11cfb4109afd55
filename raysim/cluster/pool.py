"""The client actors: pieces of work go to idle actors, and are given out again when they fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from raysim.aggregation import Question
from raysim.cluster.availability import AvailableActors
from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook, failure_of
from raysim.cluster.flights import Call, Evaluation, Flight, FlightContext, QueuedPiece
from raysim.cluster.leasing import Leasing
from raysim.cluster.metrics import RunMetrics
from raysim.cluster.questions import Asking
from raysim.cluster.roster import START_SECONDS
from raysim.cluster.runtime import Runtime
from raysim.cluster.states import KeptAfter
from raysim.cluster.training import Samples, Training
from raysim.config.running import ExecutionConfig
from raysim.errors import LostError, RaysimError, RunError
from raysim.rounds.faults import CallFailure, Fault
from raysim.rounds.ranges import EvaluationRange
from raysim.rounds.task import RoundTask

_F = TypeVar("_F", bound=Flight)


class ClientPool:
    """All client actors of a run.

    The work of an actor that died goes to others; one that does not answer within the deadline is killed, and then
    likewise.

    Attributes:
        actors: which of them can be given work.
    """

    def __init__(
        self,
        runtime: Runtime,
        actors: AvailableActors,
        leasing: Leasing,
        execution: ExecutionConfig,
        book: FaultBook,
        samples: Samples,
        fatal_error: Callable[[CallFailure], RaysimError | None],
    ) -> None:
        """All actors are idle."""
        self._runtime, self._ray, self.actors, self._roster = runtime, runtime.ray, actors, actors.roster
        self._leasing, self._samples = leasing, samples
        deadlines, roster = Deadlines(execution.faults), actors.roster
        self._context = FlightContext(book, deadlines, roster.node, roster.suits, fatal_error)
        self._flights: list[Flight] = []
        self._calls: dict[Any, Call] = {}
        self._late: dict[Any, Call] = {}
        self.watched_by: RunMetrics | None = None

    @property
    def size(self) -> int:
        """Actors that are not gone; where all are, one to come."""
        return max(1, len(self.actors))

    def node_of(self, worker: int) -> str:
        """The node of a worker."""
        return self._context.node_of(worker)

    @property
    def deadlines(self) -> Deadlines:
        """How long calls may take."""
        return self._context.deadlines

    def train(self, task: RoundTask, model: Any, shared: Any = None, kept: KeptAfter | None = None) -> Training:
        """Give out a cohort's leases; `wait` for the flight.

        `wait` raises `ClientError` where a client's own code failed, `DataError` where a shard cannot be read anywhere,
        and `RunError` where a lease was lost more often than `execution.max_retries`.
        """
        self.actors.refresh_nodes()
        while not len(self.actors):
            self.actors.wait_for_new_ones()
        first, rest = self._leasing.cut(task, self._up())
        return self.depart(Training(self._context, task, model, first, rest, self._samples, shared=shared, kept=kept))

    def evaluate(
        self,
        round_number: int,
        ranges: Sequence[EvaluationRange],
        model: Any,
        kept: KeptAfter | None = None,
        shared: Any = None,
    ) -> Evaluation:
        """Give out ranges, behind the work that is out already; `wait` for the flight."""
        up = len(self._up())
        return self.depart(Evaluation(self._context, round_number, ranges, model, up, kept, shared))

    def ask(self, question: Question) -> list[bytes]:
        """Put a question of the rule's protocol to the clients, and wait for the answers.

        Raises:
            RunError: a client refuses, or the question was lost more often than `execution.max_retries`.
        """
        if not len(question.clients):
            return []
        flight = self.depart(Asking(self._context, question, len(self._up())))
        self.wait(flight)
        return flight.answers

    def depart(self, flight: _F) -> _F:
        """Give out what a flight has waiting."""
        if flight not in self._flights:
            self._flights.append(flight)
            self._flights.sort(key=lambda one: one.due)
        self._give_out()
        return flight

    def wait(self, flight: Flight, until: Callable[[], bool] = lambda: False) -> None:
        """Go on with everything that is out until this flight has landed, or enough of it has.

        Raises:
            RunError: every actor is lost.
            Exception: what went wrong with the flight.
        """
        while not (flight.landed or until()):
            self._advance()
            self._give_out()
            if self.watched_by is not None:
                self.watched_by.queued(sum(len(one.queue) for one in self._flights), len(self._calls))
        self._flights = [one for one in self._flights if not one.landed]
        if flight.error is not None:
            raise flight.error

    def abandon(self, flight: Flight) -> None:
        """Ignore the answers to this flight; its actors are idle again once they have given them."""
        flight.abandoned = True
        self._flights = [one for one in self._flights if one is not flight]

    def forget(self) -> None:
        """Ignore all work that is out. Its actors finish it before they start anything else."""
        self.actors.idle |= {call.worker for call in self._calls.values() if call.worker in self._roster}
        self._calls.clear()
        self._late.clear()
        self._flights.clear()

    def reserve(self, node: str) -> int | None:
        """An actor on this node for calls of one's own, until `release`; None where there are none any more."""
        while (worker := self.actors.idle_on(node)) is None:
            busy = [call.worker for call in self._calls.values()]
            if node not in (self._roster.node(w) for w in (*busy, *self.actors.restarting.values())):
                return None
            self._advance()
        self.actors.idle.discard(worker)
        return worker

    def _up(self) -> frozenset[int]:
        """Workers that are busy or idle."""
        return frozenset(self.actors.idle).union(call.worker for call in self._calls.values())

    def _give_out(self) -> None:
        """Pieces for all idle actors, of the flights in their order; first those whose rows lie on an actor's node."""
        for flight in self._flights:
            if flight.error is not None:
                continue
            flight.reassign(self._up())
            for near in (True, False):
                for worker in sorted(self.actors.idle):
                    if (queued := flight.piece_for(worker, near=near)) is not None:
                        self._give(flight, queued, worker)

    def _give(self, flight: Flight, queued: QueuedPiece, worker: int) -> None:
        self.actors.idle.discard(worker)
        node = self._roster.node(worker)
        reference, kept = flight.send(self._roster.actor(worker), node, queued.piece)
        flight.out += 1
        self._look_for_model(flight)
        self._calls[reference] = Call(flight, queued, worker, node, kept, flight.limit(queued.piece))

    def _advance(self) -> None:
        """Wait for an answer or a deadline.

        Raises:
            RunError: no actor is left to wait for.
        """
        restarting = self.actors.restarting
        references = [*self._late, *restarting, *self._calls]  # restarted actors first: results might delay them
        if not self._calls and not restarting:
            self.actors.wait_for_new_ones()
            return
        now = time.monotonic()
        timeout = min((call.due - now for call in self._calls.values()), default=START_SECONDS)
        ready = self._runtime.wait(references, timeout)
        if not ready and not self._calls:
            raise RunError(f"no client actor came back within {START_SECONDS:g} s; resume the run on healthy nodes")
        for reference in ready:
            if reference in self.actors.restarting:
                self.actors.answered(reference)
            elif reference in self._late:
                self._refuse(reference)
            else:
                self._receive(reference)
        self._kill_the_late()

    def _receive(self, ready: Any) -> None:
        call = self._calls.pop(ready)
        call.flight.out -= 1
        try:
            result = self._runtime.get(ready)
        except LostError:
            raise
        except Exception as error:
            failure = failure_of(self._ray, error)
            if failure.gone:
                self.actors.await_restart(call.worker)
            else:
                self.actors.release(call.worker)
            if not call.flight.abandoned:
                call.flight.lost(call, failure)
            return
        self.actors.release(call.worker)
        if not call.flight.abandoned:
            call.flight.receive(call, result)

    def _kill_the_late(self) -> None:
        """Calls whose deadline is over are lost, and their actors are killed."""
        now = time.monotonic()
        for reference, call in list(self._calls.items()):
            if now < call.due:
                continue
            if call.flight.ready_since is None:  # it waited for the model of the round before, or may have
                call.given = now
                self._look_for_model(call.flight)
                continue
            self._late[reference] = self._calls.pop(reference)
            call.flight.out -= 1
            self._kill(call)
            if not call.flight.abandoned:
                reason = f"no answer within {call.limit:.3g} s"
                call.flight.lost(call, CallFailure("hung", reason, RunError(reason), gone=True))

    def _kill(self, call: Call) -> None:
        self.actors.kill(call.worker)

    def _look_for_model(self, flight: Flight) -> None:
        if flight.ready_since is None and self._ray.wait([flight.model], timeout=0)[0]:
            flight.started()

    def _refuse(self, ready: Any) -> None:
        """A call that was given up is answered late: by Ray, that its actor was killed, or by the actor itself."""
        call = self._late.pop(ready)
        try:
            result = self._ray.get(ready)
        except Exception:
            return
        if not call.flight.abandoned and not call.flight.receive(call, result):
            reason, then = "its answer came late", "it is ignored"
            self._context.book.say(Fault("hung", f"actor {call.worker}", reason, then, call.flight.round))
