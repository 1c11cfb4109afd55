"""The executor on Ray: client actors pinned to their share of a machine, an aggregator beside the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from raysim.cluster.actors import Aggregator, JobReference
from raysim.cluster.batches import Batches, Element
from raysim.cluster.flights import Training
from raysim.cluster.pool import ClientPool, unwrapped
from raysim.cluster.reduction import ReductionTree
from raysim.cluster.runtime import Runtime
from raysim.cluster.states import NodeStates
from raysim.errors import RunError
from raysim.execution import (
    Applied,
    Executor,
    Job,
    RoundDone,
    RoundFacts,
    RoundWork,
    ServerHandle,
    cohort_facts,
    environment,
    nobody,
    place,
    round_row,
)
from raysim.execution.cohort import cohort_size
from raysim.execution.facts import empty_row
from raysim.execution.plan import (
    LEASE_STATE_BYTES,
    actor_memory,
    bytes_down,
    evaluates_own_models,
    model_columns,
    state_width,
)
from raysim.execution.round_costs import RoundCosts, rounds_ahead
from raysim.execution.upcoming import Upcoming
from raysim.execution.work import Float32, Int64
from raysim.tracking import RoundRow


@dataclass(frozen=True, slots=True)
class _Applying:
    """A round whose clients are done, while the server takes its step.

    Attributes:
        row: without what the step takes.
        seconds: a reference to what the step takes; None where there is none.
        began: when it was asked for, by the clock.
        busiest: seconds of arithmetic of the busiest actor.
    """

    work: RoundWork
    row: RoundRow
    clients: pa.RecordBatch
    server: ServerHandle
    seconds: Any
    began: float
    busiest: float


class RayExecutor(Executor):
    """Runs a job on Ray. Models and sums live in the object store; the driver holds references."""

    name = "ray"

    def __init__(self, job: Job) -> None:
        """Start or attach to Ray and create the actors.

        Raises:
            PlacementError: they can never be placed.
        """
        execution = job.experiment.execution
        self._runtime = Runtime.start(execution)
        try:
            population = job.federation.open().population
            placement = place(
                self._runtime.nodes(),
                execution,
                population=population,
                cohort=cohort_size(job.experiment, population),
                actor_bytes=actor_memory(job).total,
            )
            shared_job = JobReference.put(job)
            self._costs = RoundCosts(placement.actors)
            width = state_width(job)
            most = max(1, LEASE_STATE_BYTES // (4 * width)) if width else None
            self._pool = ClientPool(self._runtime, shared_job, placement, execution, self._costs.clients, most)
            self._states: NodeStates | None = None
            if width:
                self._states = NodeStates(self._runtime, placement.nodes, execution, population, width, self._wait)
            self._aggregator = (
                self._runtime.ray.remote(Aggregator)
                .options(
                    num_cpus=0,
                    max_restarts=-1,
                    max_task_retries=-1,  # its methods are pure: doing one again changes nothing
                    scheduling_strategy=self._runtime.pinned(self._runtime.home),
                )
                .remote(shared_job)
            )
            self._tree = ReductionTree(self._runtime, placement.nodes, job.experiment.aggregation.fan_in)
        except BaseException:
            self._runtime.close()
            raise
        self.workers = placement.actors
        self._columns = model_columns(job)
        self._bytes_down, self._personal = bytes_down(job), evaluates_own_models(job)
        self._ahead = rounds_ahead(execution)
        self._finished_at: float | None = None
        self._own_actors = execution.clients_per_actor is not None
        self._batches = Batches(
            self._runtime, self._pool, self._costs, self._columns, execution.max_retries, self._resolved
        )

    def environment(self) -> dict[str, Any]:
        found = self._pool.bits()
        for index, bits in enumerate(found):
            for key, value in bits.items():
                if value != found[0][key]:
                    raise RunError(
                        f"actor {index} has {key} {value!r}, actor 0 has {found[0][key]!r}: "
                        "the result would depend on who trains whom"
                    )
        return environment(found[0])

    def first(self) -> ServerHandle:
        return ServerHandle(*self._aggregator.first.options(num_returns=3).remote())

    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        upcoming = Upcoming(works, self._ahead)
        if self._states is not None:
            self._states.roll_back(server.version)
        try:
            while (work := upcoming.peek()) is not None:
                several = self._batches.rounds if self._small(work) else self._shared
                for done in several(upcoming, server):
                    server = done.server
                    yield done
        finally:
            self._pool.forget()

    def save(self, folder: str, server: ServerHandle) -> None:
        server = self._resolved(server)
        self._wait(self._aggregator.save.remote(folder, server.state, server.model))
        if self._states is not None:
            self._states.save(folder, server.version)

    def load(self, folder: str) -> ServerHandle:
        state, model, shared = self._aggregator.load.options(num_returns=3).remote(folder)
        self._wait(state)
        if self._states is not None:
            self._states.load(folder)
        return ServerHandle(state, model, shared)

    def export(self, path: str, server: ServerHandle) -> None:
        self._wait(self._aggregator.export.remote(path, self._resolved(server).model))

    def fetch(self, server: ServerHandle) -> Float32:
        with unwrapped(self._runtime.ray):
            model: Float32 = self._runtime.ray.get(self._resolved(server).model)
        return model

    def close(self) -> None:
        if self._runtime.ray.is_initialized():
            self._pool.close()
            self._tree.close()
            if self._states is not None:
                self._states.close()
            self._runtime.ray.kill(self._aggregator)
        self._runtime.close()

    def _small(self, work: RoundWork) -> bool:
        """Whether the round goes to one actor as a whole."""
        if self._states is not None or self._own_actors or not self._ahead or not self._batches.open:
            return False
        return self._costs.measured and self._costs.small(work)

    def _shared(self, upcoming: Upcoming, server: ServerHandle) -> Generator[RoundDone]:
        """Rounds that are cut over all actors, until one is small.

        While the server takes its step, the next round's leases are given out already, and wait for its model; the
        evaluation goes behind them, where it fills the time of actors that are done early.
        """
        server = self._resolved(server)
        self._finished_at = None
        applying: _Applying | None = None
        while True:
            # One worker is not done early; and what clients keep is final only when its round is committed.
            if applying is not None and (self.workers == 1 or self._states is not None):
                yield self._finish(applying)
                upcoming.finished()
                applying = None
            work = upcoming.peek()
            if work is not None and self._small(work):
                work = None
            if work is None and applying is None:
                return
            training = None
            if work is not None:
                upcoming.take()
                training = self._train(work, server) if len(work.task.clients) else None
            if applying is not None:
                yield self._finish(applying)
                upcoming.finished()
                applying = None
            if work is not None:
                applying = self._apply(work, training, server)
                server = applying.server

    def _train(self, work: RoundWork, server: ServerHandle) -> Training:
        return self._pool.train(work.task, server.model, server.shared, self._kept(server.version))

    def _kept(self, version: int) -> Callable[[Int64], list[Any]] | None:
        """Finds what clients keep, as it is after a round."""
        return None if self._states is None else partial(self._states.read, version=version)

    def _apply(self, work: RoundWork, training: Training | None, server: ServerHandle) -> _Applying:
        """Wait for the cohort, and ask for the server's step."""
        if training is None:
            return _Applying(work, empty_row(work.task), nobody(), server, None, time.perf_counter(), 0.0)
        self._pool.wait(training)
        trained = training.trained()
        facts = cohort_facts(work.task, trained)
        began = time.perf_counter()
        sums = self._tree.reduce(trained.sums)
        state, model, shared, seconds = self._aggregator.apply.options(num_returns=4).remote(
            work.task.round, facts.contributed, server.state, server.model, *sums
        )
        if self._states is not None:
            self._states.write(work.task.round, training.written)
        after = ServerHandle(state, model, shared, work.task.round)
        row = round_row(work.task, facts, trained, Applied(after, 0.0, 0.0), self._bytes_down)
        return _Applying(work, row, facts.clients, after, seconds, began, max(training.busy.values()))

    def _finish(self, applying: _Applying) -> RoundDone:
        """Evaluate the round, once its step is taken."""
        ranges, row = applying.work.ranges, applying.row
        kept = self._kept(applying.server.version) if self._personal else None
        evaluation = self._pool.evaluate(ranges, applying.server.model, kept) if ranges else None
        seconds, arithmetic = dict(row.seconds), applying.busiest
        if applying.seconds is not None:
            with unwrapped(self._runtime.ray):
                reduce, apply = self._runtime.ray.get(applying.seconds)
            self._costs.saw_step(reduce + apply)
            arithmetic += reduce + apply
            seconds |= {"reduce": time.perf_counter() - applying.began - apply, "apply": apply}
        if evaluation is not None:
            self._pool.wait(evaluation)
            self._costs.saw_evaluation(len(ranges), evaluation.seconds)
            arithmetic += evaluation.seconds / self.workers
            seconds["evaluate"] = evaluation.wall
        before, self._finished_at = self._finished_at, time.perf_counter()
        interval = None if before is None else self._finished_at - before
        self._costs.saw_shared(applying.clients, interval, arithmetic)
        evaluated = () if evaluation is None else tuple(evaluation.results)
        return RoundDone(RoundFacts(replace(row, seconds=seconds), applying.clients, evaluated), applying.server)

    def _resolved(self, server: ServerHandle) -> ServerHandle:
        """The handle with references of its own, to everything that travels."""
        if not isinstance(server.state, Element):
            if self._bytes_down == 4 * self._columns or server.shared is not None:
                return server
            return replace(server, shared=self._aggregator.shared.remote(server.state))  # after rounds on one actor
        one = server.state
        return ServerHandle(*self._aggregator.pick.options(num_returns=3).remote(one.history, one.index))

    def _wait(self, reference: Any) -> Any:
        with unwrapped(self._runtime.ray):
            return self._runtime.ray.get(reference)
