"""The executor on Ray: client actors pinned to their share of a machine, an aggregator beside the driver."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from raysim.aggregation import discount_of
from raysim.arrays import Float32
from raysim.cluster.actors import Aggregator
from raysim.cluster.availability import AvailableActors
from raysim.cluster.batches import Batches, Element
from raysim.cluster.faults import FaultBook, unwrapped
from raysim.cluster.leasing import Leasing
from raysim.cluster.metrics import run_metrics
from raysim.cluster.packing import packed_job
from raysim.cluster.pool import ClientPool
from raysim.cluster.reduction import ReductionTree
from raysim.cluster.references import Reference
from raysim.cluster.roster import Roster
from raysim.cluster.runtime import Runtime
from raysim.cluster.shared import SharedRounds
from raysim.cluster.states import NodeStates
from raysim.cluster.steps import ServerSteps
from raysim.errors import ModelError, RunError
from raysim.execution.placement.census import placer
from raysim.execution.placement.memory import Skeleton, actor_memory
from raysim.execution.scheduling.round_costs import RoundCosts, rounds_ahead
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.rounds.environment import environment
from raysim.rounds.executor import Executor
from raysim.rounds.faults import Fault
from raysim.rounds.job import Job
from raysim.rounds.messages import Messages
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import RoundDone, ServerHandle
from raysim.rounds.task import RoundWork
from raysim.user_code import user_code


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
            nodes, samples = self._runtime.nodes(), partial(job.federation.open().sizes, "train")
            skeleton = Skeleton.of(job)
            where = placer(skeleton, actor_memory(job, skeleton), nodes)
            placement = where.place(nodes)
            with user_code("the model, or the data, cannot be sent to actors", ModelError):
                travelling, self._base_note = packed_job(job, skeleton.frozen)
                shared_job = Reference.put(travelling)
            self._costs, self._book = RoundCosts(placement.actors), FaultBook(execution)
            own, width = execution.clients_per_actor is not None, skeleton.state_width
            self._roster = Roster(self._runtime, shared_job, where, placement, dedicated=own)
            self._states: NodeStates | None = None
            if width:
                population = job.federation.open().population
                self._states = NodeStates(self._runtime, placement.nodes, execution, population, width, self._wait)
            leasing = Leasing(self._roster, execution, self._costs.clients, samples, self._states)
            fatal_error = self._states.fatal_error if self._states is not None else lambda failure: None
            actors = AvailableActors(self._runtime, self._roster, self._book, execution.wait_for_nodes)
            self._pool = ClientPool(self._runtime, actors, leasing, execution, self._book, samples, fatal_error)
            self._aggregator = self._server(shared_job)
            protocol = skeleton.aggregation.rule.protocol
            holder = self._server(shared_job) if protocol is not None and protocol.holds_keys else None
            self._tree = ReductionTree(self._runtime, placement.nodes, job.experiment.aggregation.fan_in)
        except BaseException:
            self._runtime.close()
            raise
        self.workers = placement.actors
        columns, down = skeleton.columns, skeleton.transport_down
        self._reads_server = down > 4 * columns
        self._ahead = rounds_ahead(job.experiment)
        self._own_actors = own or bool(execution.classes)
        self._steps = ServerSteps(
            self._runtime,
            self._aggregator,
            self._tree,
            self._pool.deadlines,
            self._book,
            columns,
            holder,
            chained=job.experiment.tracking.chain,
        )
        self._shared = SharedRounds(
            self._pool,
            leasing,
            self._steps,
            self._costs,
            self._book,
            down=down,
            wire_down=skeleton.wire_down,
            every_round=skeleton.aggregation.every_round,
            asynchronous=job.experiment.systems.asynchronous,
            states=self._states,
            personal=skeleton.algorithm.personal,
            in_rows=job.engine.rows > 1,
            mixes=discount_of(job.experiment).models,
            messages=None if protocol is None else Messages(protocol, job.experiment.seed, self._pool.ask),
        )
        self._batches = Batches(
            self._runtime,
            self._pool,
            self._costs,
            columns,
            self._book,
            self._resolved,
            personal=skeleton.algorithm.personal,
        )
        self._metrics = run_metrics(
            execution.metrics, self._runtime.owned, job.experiment.name, self._runtime.home, self._pool.node_of
        )
        self._pool.watched_by = self._metrics

    def _server(self, job: Any) -> Any:
        """An actor beside the driver that takes steps."""
        options = self._runtime.ray.remote(Aggregator).options(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,  # its methods are pure: doing one again changes nothing
            scheduling_strategy=self._runtime.pinned(self._runtime.home),
        )
        return options.remote(job)

    def environment(self) -> dict[str, Any]:
        found = self._pool.actors.bits(self._book.max_retries)
        first, expected = next(iter(found.items()))
        for index, bits in found.items():
            for key, value in bits.items():
                if value != expected[key]:
                    raise RunError(
                        f"actor {index} has {key} {value!r}, actor {first} has {expected[key]!r}: "
                        "the result would depend on who trains whom"
                    )
        self._roster.expect(expected)
        return environment(expected)

    def on_fault(self, callback: Callable[[Fault], None]) -> None:
        self._book.on_fault(callback)

    def on_note(self, callback: Callable[[str], None]) -> None:
        self._roster.on_note(callback)
        if self._base_note is not None:
            callback(self._base_note)

    def call(self, run: str) -> None:
        if self._metrics is not None:
            self._metrics.run = run

    def first(self) -> ServerHandle:
        state, model, shared, there = self._aggregator.first.options(num_returns=4).remote()
        self._wait(there)  # what is wrong with the server is found out here, before there is a run directory
        return ServerHandle(state, model, shared, digest=self._steps.digest(state, model))

    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        upcoming = Upcoming(works, self._ahead)
        if self._states is not None:
            self._states.roll_back(server.version)
        try:
            while (work := upcoming.peek()) is not None:
                if self._small(work):
                    several = self._batches.rounds(upcoming, server)
                else:
                    several = self._shared.rounds(upcoming, self._resolved(server), self._small)
                for done in several:
                    self._runtime.health.look()
                    server = done.server
                    if self._metrics is not None:
                        self._metrics.saw(done.facts)
                    yield done
        finally:
            self._pool.forget()

    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        if not ranges:
            return []
        flight = self._pool.evaluate(server.version, ranges, self._resolved(server).model)
        self._pool.wait(flight)
        return flight.results

    def save(self, folder: str, server: ServerHandle) -> None:
        server = self._resolved(server)
        older = list(server.older), *server.older.values()
        self._wait(self._aggregator.save.remote(folder, server.state, server.model, *older))
        if self._states is not None:
            self._states.save(folder, server.version)

    def load(self, folder: str) -> ServerHandle:
        state, model, shared, versions = self._aggregator.load.options(num_returns=4).remote(folder)
        older = {one: self._aggregator.load_older.remote(folder, one) for one in self._wait(versions)}
        if self._states is not None:
            self._states.load(folder)
        return ServerHandle(state, model, shared, older=older, digest=self._steps.digest(state, model))

    def export(self, path: str, server: ServerHandle) -> None:
        self._wait(self._aggregator.export.remote(path, self._resolved(server).model))

    def fetch(self, server: ServerHandle) -> Float32:
        with unwrapped(self._runtime.ray):
            model: Float32 = self._runtime.get(self._resolved(server).model)
        return model

    def close(self) -> None:
        if self._runtime.ray.is_initialized() and not self._runtime.health.lost:  # it would wait for Ray for ever
            if self._metrics is not None:
                self._metrics.close()
            self._roster.close()
            self._tree.close()
            if self._states is not None:
                self._states.close()
            self._runtime.ray.kill(self._aggregator)
        self._runtime.close()

    def _small(self, work: RoundWork) -> bool:
        """Whether the round goes to one actor as a whole."""
        if self._states is not None or self._own_actors or not self._ahead or not self._batches.open:
            return False
        if work.start is not None:  # some of those who start wait for later rounds, and one call has no room for them
            return False
        if work.task.round in self._batches.refused:
            return False
        return self._costs.measured and self._costs.small(work)

    def _resolved(self, server: ServerHandle) -> ServerHandle:
        """The handle with references of its own, to everything that travels."""
        if not isinstance(server.state, Element):
            if not self._reads_server or server.shared is not None:
                return server
            return replace(server, shared=self._aggregator.shared.remote(server.state))  # after rounds on one actor
        one = server.state
        picked = self._aggregator.pick.options(num_returns=3).remote(one.history, one.index)
        return replace(ServerHandle(*picked), digest=server.digest)

    def _wait(self, reference: Any) -> Any:
        """Wait for files to be written or read; what a disk refuses to the actor is raised as it was there."""
        try:
            with unwrapped(self._runtime.ray):
                return self._runtime.get(reference)
        except self._runtime.ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OSError):
                raise error.cause from error
            raise
