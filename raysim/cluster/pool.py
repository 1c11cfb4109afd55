"""The client actors: pieces of work go to whoever is idle, and out again when they come to nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypeVar

from raysim.cluster.actors import ClientActor, JobReference
from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook, first_line, loss_of, unwrapped
from raysim.cluster.flights import Call, Evaluation, Flight, Setting, Waiting
from raysim.cluster.metrics import RunMetrics
from raysim.cluster.runtime import Runtime
from raysim.cluster.training import Samples, Training
from raysim.config.running import ExecutionConfig
from raysim.errors import DataError, PlacementError, RaysimError, RunError
from raysim.execution import (
    CostModel,
    EvaluationRange,
    Lease,
    Placement,
    RoundTask,
    schedule,
    schedule_by_owner,
)
from raysim.execution.faults import Fault, Loss, to_blame

_F = TypeVar("_F", bound=Flight)

START_SECONDS = 600.0
"""How long actors may take to start, importing torch on a slow machine included."""


class ClientPool:
    """All client actors of a run.

    An actor that died is asked for a sign of life, which comes once Ray has started it again; until then its work goes
    to others. One that does not answer within the deadline is killed, and then likewise. An actor that Ray gives up, or
    that cannot read the data on its node, gets no more work.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: JobReference,
        placement: Placement,
        execution: ExecutionConfig,
        costs: CostModel,
        book: FaultBook,
        samples: Samples,
    ) -> None:
        """Create the actors; leases are cut by `costs`, whoever teaches it."""
        self._ray, self._placement = runtime.ray, placement
        self._clients_per_actor, self._max_retries = execution.clients_per_actor, execution.max_retries
        self._costs, self._samples = costs, samples
        self._setting = Setting(book, Deadlines(execution.faults), placement.nodes.__getitem__)
        self._idle = set(range(placement.actors))
        self._flights: list[Flight] = []
        self._calls: dict[Any, Call] = {}
        self._late: dict[Any, Call] = {}
        self._reviving: dict[Any, int] = {}
        self.watched_by: RunMetrics | None = None
        actor = self._ray.remote(ClientActor)
        self._actors = [
            actor.options(
                num_cpus=placement.num_cpus,
                num_gpus=placement.num_gpus,
                max_restarts=-1,
                max_task_retries=0,  # the pool itself gives a lease out again, under a new attempt
                scheduling_strategy=runtime.pinned(node),
            ).remote(job, index, placement.num_gpus)
            for index, node in enumerate(placement.nodes)
        ]

    def node_of(self, worker: int) -> str:
        """The node of a worker."""
        return self._setting.node_of(worker)

    @property
    def deadlines(self) -> Deadlines:
        """How long calls may take."""
        return self._setting.deadlines

    def bits(self) -> dict[int, dict[str, Any]]:
        """What each actor's bits depend on; waits until all are up. Those that cannot read their data are left out.

        Raises:
            PlacementError: some are still not up after `START_SECONDS`: somebody else uses the cluster.
            DataError: no actor can read the data.
        """
        again = {"max_task_retries": self._max_retries}
        calls = [actor.bits.options(**again).remote() for actor in self._actors]
        _, late = self._ray.wait(calls, num_returns=len(calls), timeout=START_SECONDS)
        if late:
            free = self._ray.available_resources()
            raise PlacementError(
                f"{len(calls)} actors did not start within {START_SECONDS:g} s; free are {free.get('CPU', 0):g} CPUs "
                f"and {free.get('GPU', 0):g} GPUs: wait for other work, or close the other simulation of this process"
            )
        found: dict[int, dict[str, Any]] = {}
        unread: DataError | None = None
        for worker, call in enumerate(calls):
            try:
                with unwrapped(self._ray):
                    found[worker] = self._ray.get(call)
            except DataError as error:
                unread = error
                self._dismiss(worker, error)
        if unread is not None and not found:
            raise unread
        return found

    def train(self, task: RoundTask, model: Any) -> Training:
        """Give out a cohort's leases; `wait` for the flight.

        `wait` raises `ClientError` where a client's own code failed, `DataError` where a shard cannot be read anywhere,
        and `RunError` where a lease was lost more often than `execution.max_retries`.
        """
        first, rest = self._plan(task)
        return self.depart(Training(self._setting, task, model, first, rest, self._samples))

    def evaluate(self, round_number: int, ranges: Sequence[EvaluationRange], model: Any) -> Evaluation:
        """Give out ranges, behind whatever was given out before; `wait` for the flight."""
        up = len(self._idle) + len(self._calls)
        return self.depart(Evaluation(self._setting, round_number, ranges, model, up))

    def depart(self, flight: _F) -> _F:
        """Give out what a flight has waiting."""
        if flight not in self._flights:
            self._flights.append(flight)
        self._give_out()
        return flight

    def wait(self, flight: Flight) -> None:
        """Go on with everything that is out until this flight has landed.

        Raises:
            RunError: every actor is lost.
            Exception: what went wrong with the flight.
        """
        while not flight.landed:
            self._advance()
            self._give_out()
            if self.watched_by is not None:
                self.watched_by.queued(sum(len(one.queue) for one in self._flights), len(self._calls))
        self._flights = [one for one in self._flights if not one.landed]
        if flight.error is not None:
            raise flight.error

    def abandon(self, flight: Flight) -> None:
        """Throw away what comes back for this flight; its actors are idle when they are done with it."""
        flight.abandoned = True
        self._flights = [one for one in self._flights if one is not flight]

    def forget(self) -> None:
        """Throw away all that is out. Its actors come to the end of what they do before they do anything else."""
        self._idle |= {call.worker for call in self._calls.values()}
        self._calls.clear()
        self._late.clear()
        self._flights.clear()

    def lives_on(self, node: str) -> bool:
        """Whether an actor was placed on this node."""
        return node in self._placement.nodes

    def reserve(self, node: str) -> int | None:
        """An actor on this node for calls of one's own, until `release`; None where there are none any more."""
        while (worker := min((w for w in self._idle if self._placement.nodes[w] == node), default=None)) is None:
            busy = [call.worker for call in self._calls.values()]
            if node not in (self._placement.nodes[w] for w in (*busy, *self._reviving.values())):
                return None
            self._advance()
        self._idle.discard(worker)
        return worker

    def release(self, worker: int) -> None:
        """The actor is idle again."""
        self._idle.add(worker)

    def actor(self, worker: int) -> Any:
        """The actor itself."""
        return self._actors[worker]

    def kill(self, worker: int) -> None:
        """The actor hangs: Ray is to kill it and to start it again. It gets work again when it answers."""
        self._ray.kill(self._actors[worker], no_restart=False)
        self.bury(worker)

    def bury(self, worker: int) -> None:
        """The actor died: it gets work again when it answers."""
        self._reviving[self._actors[worker].bits.options(max_task_retries=-1).remote()] = worker

    def close(self) -> None:
        """Stop the actors."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _plan(self, task: RoundTask) -> tuple[dict[int, Lease], list[Lease]]:
        """The first lease of each worker, and those that wait for whoever is idle."""
        if self._clients_per_actor is not None:
            plan = schedule_by_owner(task.clients // self._clients_per_actor)
        else:
            plan = schedule(self._costs.seconds(task.steps), len(self._actors))
        first = {worker: Lease.of(task, positions) for worker, positions in enumerate(plan.first) if len(positions)}
        return first, [Lease.of(task, positions) for positions in plan.rest]

    def _give_out(self) -> None:
        """Pieces for all idle actors, of the flights in their order."""
        for flight in self._flights:
            if flight.error is not None:
                continue
            flight.reassign(frozenset(self._idle).union(call.worker for call in self._calls.values()))
            for worker in sorted(self._idle):
                if (waiting := flight.piece_for(worker)) is not None:
                    self._give(flight, waiting, worker)

    def _give(self, flight: Flight, waiting: Waiting, worker: int) -> None:
        self._idle.discard(worker)
        reference, kept = flight.send(self._actors[worker], waiting.piece)
        flight.out += 1
        self._look_for_model(flight)
        node = self._placement.nodes[worker]
        self._calls[reference] = Call(flight, waiting, worker, node, kept, flight.limit(waiting.piece))

    def _advance(self) -> None:
        """Wait for any news, or for a deadline.

        Raises:
            RunError: there is nobody to wait for.
        """
        references = [*self._late, *self._reviving, *self._calls]  # news of actors first, else results might hide it
        if not self._calls and not self._reviving:
            raise RunError("every client actor is lost; resume the run on healthy nodes")
        now = time.monotonic()
        timeout = min((call.due - now for call in self._calls.values()), default=START_SECONDS)
        ready, _ = self._ray.wait(references, num_returns=1, timeout=max(0.0, timeout))
        if not ready and not self._calls:
            raise RunError(f"no client actor came back within {START_SECONDS:g} s; resume the run on healthy nodes")
        for reference in ready:
            if reference in self._reviving:
                self._revive(reference)
            elif reference in self._late:
                self._refuse(reference)
            else:
                self._receive(reference)
        self._kill_the_late()

    def _receive(self, ready: Any) -> None:
        call = self._calls.pop(ready)
        call.flight.out -= 1
        try:
            result = self._ray.get(ready)
        except Exception as error:
            loss = loss_of(self._ray, error)
            if loss.gone:
                self.bury(call.worker)
            else:
                self._idle.add(call.worker)
            if not call.flight.abandoned:
                call.flight.lost(call, loss)
            return
        self._idle.add(call.worker)
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
            self.kill(call.worker)
            if not call.flight.abandoned:
                reason = f"no answer within {call.limit:.3g} s"
                call.flight.lost(call, Loss("hung", reason, RunError(reason), gone=True))

    def _look_for_model(self, flight: Flight) -> None:
        if flight.ready_since is None and self._ray.wait([flight.model], timeout=0)[0]:
            flight.started()

    def _refuse(self, ready: Any) -> None:
        """A call that was given up is answered after all: by Ray, that its actor was killed, or by the actor itself."""
        call = self._late.pop(ready)
        try:
            result = self._ray.get(ready)
        except Exception:
            return
        if not call.flight.abandoned and not call.flight.receive(call, result):
            reason, then = "its answer came after all", "it is thrown away"
            self._setting.book.say(Fault("hung", f"actor {call.worker}", reason, then, call.flight.round))

    def _revive(self, ready: Any) -> None:
        worker = self._reviving.pop(ready)
        try:
            with unwrapped(self._ray):
                self._ray.get(ready)
        except (RaysimError, self._ray.exceptions.RayError) as error:
            self._dismiss(worker, error)
        else:
            self._idle.add(worker)

    def _dismiss(self, worker: int, error: Exception) -> None:
        """The actor cannot work where it is, or Ray gave it up."""
        self._idle.discard(worker)
        kind = to_blame(error) if isinstance(error, RaysimError) else "died"
        self._setting.book.say(Fault(kind, f"actor {worker}", first_line(error), "it gets no more work", 0))
