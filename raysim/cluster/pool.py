"""The client actors: pieces of work go to whoever is idle, and out again when an actor dies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from raysim.cluster.actors import ClientActor, JobReference
from raysim.cluster.flights import Evaluation, Flight, Training
from raysim.cluster.runtime import Runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError, RaysimError, RunError
from raysim.execution import (
    CostModel,
    EvaluationRange,
    Lease,
    Placement,
    RoundTask,
    schedule,
    schedule_by_owner,
)
from raysim.execution.work import Int64

_F = TypeVar("_F", bound=Flight)

START_SECONDS = 600.0
"""How long actors may take to start, importing torch on a slow machine included."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A piece of a flight that an actor works on, and what to keep until it comes back."""

    flight: Flight
    piece: Any
    worker: int
    kept: Any


class ClientPool:
    """All client actors of a run.

    An actor whose call was lost is asked for a sign of life, which comes once Ray has started it again; until then its
    work goes to others. An actor that Ray gives up is not asked again.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: JobReference,
        placement: Placement,
        execution: ExecutionConfig,
        costs: CostModel,
        most: int | None = None,
    ) -> None:
        """Create the actors; leases are cut by `costs`, whoever teaches it, and at `most` clients."""
        self._ray, self._placement = runtime.ray, placement
        self._clients_per_actor, self._max_retries = execution.clients_per_actor, execution.max_retries
        self.lost = (runtime.ray.exceptions.RayActorError, runtime.ray.exceptions.ActorUnschedulableError)
        self._costs, self._most = costs, most
        self._idle = set(range(placement.actors))
        self._flights: list[Flight] = []
        self._calls: dict[Any, _Call] = {}
        self._reviving: dict[Any, int] = {}
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

    def bits(self) -> list[dict[str, Any]]:
        """What each actor's bits depend on; waits until all are up.

        Raises:
            PlacementError: some are still not up after `START_SECONDS`: somebody else uses the cluster.
        """
        calls = [actor.bits.remote() for actor in self._actors]
        try:
            with unwrapped(self._ray):
                found: list[dict[str, Any]] = self._ray.get(calls, timeout=START_SECONDS)
        except self._ray.exceptions.GetTimeoutError:
            free = self._ray.available_resources()
            raise PlacementError(
                f"{len(calls)} actors did not start within {START_SECONDS:g} s; free are {free.get('CPU', 0):g} CPUs "
                f"and {free.get('GPU', 0):g} GPUs: wait for other work, or close the other simulation of this process"
            ) from None
        return found

    def train(
        self, task: RoundTask, model: Any, shared: Any = None, kept: Callable[[Int64], list[Any]] | None = None
    ) -> Training:
        """Give out a cohort's leases; `wait` for the flight.

        `wait` raises `ClientError` where a client's own code failed, and `RunError` where a lease was lost more often
        than `execution.max_retries`.
        """
        first, rest = self._plan(task)
        return self._depart(Training(task, model, first, rest, self._max_retries, shared=shared, kept=kept))

    def evaluate(
        self, ranges: Sequence[EvaluationRange], model: Any, kept: Callable[[Int64], list[Any]] | None = None
    ) -> Evaluation:
        """Give out ranges, behind whatever was given out before; `wait` for the flight."""
        return self._depart(Evaluation(ranges, model, len(self._actors) - len(self._reviving), kept))

    def wait(self, flight: Flight) -> None:
        """Go on with everything that is out until this flight has landed.

        Raises:
            RunError: every actor is lost.
            Exception: what went wrong with the flight.
        """
        while not flight.landed:
            for ready in self._next([*self._calls, *self._reviving]):
                if ready in self._reviving:
                    self._revive(ready)
                else:
                    self._receive(ready)
            self._give_out()
        self._flights = [one for one in self._flights if not one.landed]
        if flight.error is not None:
            raise flight.error

    def forget(self) -> None:
        """Throw away all that is out. Its actors come to the end of what they do before they do anything else."""
        self._idle |= {call.worker for call in self._calls.values()}
        self._calls.clear()
        self._flights.clear()

    def lives_on(self, node: str) -> bool:
        """Whether an actor was placed on this node."""
        return node in self._placement.nodes

    def reserve(self, node: str) -> int | None:
        """An actor on this node for calls of one's own, until `release`; None where there are none any more."""
        while (worker := min((w for w in self._idle if self._placement.nodes[w] == node), default=None)) is None:
            if node not in (self._placement.nodes[w] for w in self._reviving.values()):
                return None
            for ready in self._next(list(self._reviving)):
                self._revive(ready)
        self._idle.discard(worker)
        return worker

    def release(self, worker: int) -> None:
        """The actor is idle again."""
        self._idle.add(worker)

    def actor(self, worker: int) -> Any:
        """The actor itself."""
        return self._actors[worker]

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
        rest = [Lease.of(task, positions) for positions in plan.rest]
        if self._most is None or self._clients_per_actor is not None:
            return first, rest
        pieces = {worker: lease.cut(self._most) for worker, lease in first.items()}
        beyond = [piece for whole in pieces.values() for piece in whole[1:]]
        return {worker: whole[0] for worker, whole in pieces.items()}, beyond + [
            piece for lease in rest for piece in lease.cut(self._most)
        ]

    def _depart(self, flight: _F) -> _F:
        self._flights.append(flight)
        self._give_out()
        return flight

    def _give_out(self) -> None:
        """Pieces for all idle actors, of the flights in their order."""
        for flight in self._flights:
            if flight.error is not None:
                continue
            flight.reassign(self._idle | {call.worker for call in self._calls.values()})
            for worker in sorted(self._idle):
                if (piece := flight.piece_for(worker)) is not None:
                    self._give(flight, piece, worker)

    def _give(self, flight: Flight, piece: Any, worker: int) -> None:
        self._idle.discard(worker)
        reference, kept = flight.send(self._actors[worker], piece)
        flight.out += 1
        self._calls[reference] = _Call(flight, piece, worker, kept)

    def _receive(self, ready: Any) -> None:
        call = self._calls.pop(ready)
        call.flight.out -= 1
        try:
            with unwrapped(self._ray):
                result = self._ray.get(ready)
        except self.lost as error:
            self.bury(call.worker)
            call.flight.lost(call.piece, error)
            return
        except Exception as error:
            self._idle.add(call.worker)
            call.flight.error = error
            return
        self._idle.add(call.worker)
        call.flight.receive(call.worker, self._placement.nodes[call.worker], call.kept, result)

    def _next(self, references: list[Any]) -> list[Any]:
        """Whatever is ready, at least one."""
        if not references:
            raise RunError("every client actor is lost; resume the run on healthy nodes")
        ready, _ = self._ray.wait(references, num_returns=1)
        return list(ready)

    def _revive(self, ready: Any) -> None:
        worker = self._reviving.pop(ready)
        with suppress(*self.lost), unwrapped(self._ray):
            self._ray.get(ready)
            self._idle.add(worker)


@contextmanager
def unwrapped(ray: Any) -> Iterator[None]:
    """Raise raysim's own errors from an actor as they were raised there."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaysimError):
            raise error.cause from error
        raise
