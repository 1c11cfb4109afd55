"""The executor on Ray: client actors pinned to their share of a machine, an aggregator beside the driver."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from raysim.cluster.actors import Aggregator, JobReference
from raysim.cluster.batches import Batches, Element
from raysim.cluster.flights import Training
from raysim.cluster.pool import ClientPool, unwrapped
from raysim.cluster.reduction import ReductionTree
from raysim.cluster.runtime import Runtime
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
from raysim.execution.facts import empty_row, with_chosen
from raysim.execution.plan import actor_memory, model_columns
from raysim.execution.round_costs import RoundCosts, rounds_ahead
from raysim.execution.upcoming import Upcoming
from raysim.execution.work import Float32
from raysim.tracking import RoundRow


@dataclass(frozen=True, slots=True)
class _Applying:
    """A round whose clients are done, while the server takes its step.

    Attributes:
        row: without what the step takes.
        step: a reference to the facts of the step; None where there is none.
        began: when it was asked for, by the clock.
        busiest: seconds of arithmetic of the busiest actor.
    """

    work: RoundWork
    row: RoundRow
    clients: pa.RecordBatch
    server: ServerHandle
    step: Any
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
            self._pool = ClientPool(self._runtime, shared_job, placement, execution, self._costs.clients)
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
        return ServerHandle(*self._aggregator.first.options(num_returns=2).remote())

    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        upcoming = Upcoming(works, self._ahead)
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

    def load(self, folder: str) -> ServerHandle:
        state, model = self._aggregator.load.options(num_returns=2).remote(folder)
        self._wait(state)
        return ServerHandle(state, model)

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
            self._runtime.ray.kill(self._aggregator)
        self._runtime.close()

    def _small(self, work: RoundWork) -> bool:
        """Whether the round goes to one actor as a whole."""
        if self._own_actors or not self._ahead or not self._batches.open:
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
            if applying is not None and self.workers == 1:  # nobody is done early
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
                training = self._pool.train(work.task, server.model) if len(work.task.clients) else None
            if applying is not None:
                yield self._finish(applying)
                upcoming.finished()
                applying = None
            if work is not None:
                applying = self._apply(work, training, server)
                server = applying.server

    def _apply(self, work: RoundWork, training: Training | None, server: ServerHandle) -> _Applying:
        """Wait for the cohort, and ask for the server's step."""
        if training is None:
            return _Applying(work, empty_row(work.task), nobody(), server, None, time.perf_counter(), 0.0)
        self._pool.wait(training)
        trained = training.trained()
        facts = cohort_facts(work.task, trained)
        began = time.perf_counter()
        sums = self._tree.reduce(trained.sums)
        state, model, step = self._aggregator.apply.options(num_returns=3).remote(
            work.task.round, facts.contributed, server.state, server.model, *sums
        )
        after = ServerHandle(state, model)
        row = round_row(work.task, facts, trained, Applied(after, 0.0, 0.0), 4 * self._columns)
        return _Applying(work, row, facts.clients, after, step, began, max(training.busy.values()))

    def _finish(self, applying: _Applying) -> RoundDone:
        """Evaluate the round, once its step is taken."""
        ranges, row, clients = applying.work.ranges, applying.row, applying.clients
        evaluation = self._pool.evaluate(ranges, applying.server.model) if ranges else None
        seconds, arithmetic = dict(row.seconds), applying.busiest
        if applying.step is not None:
            with unwrapped(self._runtime.ray):
                step = self._runtime.ray.get(applying.step)
            self._costs.saw_step(step.check + step.apply)
            arithmetic += step.check + step.apply
            seconds |= {"reduce": time.perf_counter() - applying.began - step.apply, "apply": step.apply}
            row, clients = with_chosen(row, clients, step.chosen)
        if evaluation is not None:
            self._pool.wait(evaluation)
            self._costs.saw_evaluation(len(ranges), evaluation.seconds)
            arithmetic += evaluation.seconds / self.workers
            seconds["evaluate"] = evaluation.wall
        before, self._finished_at = self._finished_at, time.perf_counter()
        interval = None if before is None else self._finished_at - before
        self._costs.saw_shared(applying.clients, interval, arithmetic)
        evaluated = () if evaluation is None else tuple(evaluation.results)
        return RoundDone(RoundFacts(replace(row, seconds=seconds), clients, evaluated), applying.server)

    def _resolved(self, server: ServerHandle) -> ServerHandle:
        """The handle with references of its own."""
        if not isinstance(server.state, Element):
            return server
        one = server.state
        return ServerHandle(*self._aggregator.pick.options(num_returns=2).remote(one.history, one.index))

    def _wait(self, reference: Any) -> None:
        with unwrapped(self._runtime.ray):
            self._runtime.ray.get(reference)
