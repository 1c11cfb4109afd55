"""The executor on Ray: client actors pinned to their share of a machine, an aggregator beside the driver."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from raysim.cluster.actors import Aggregator, JobReference
from raysim.cluster.pool import ClientPool, unwrapped
from raysim.cluster.reduction import ReductionTree
from raysim.cluster.runtime import Runtime
from raysim.errors import RunError
from raysim.execution import (
    Applied,
    Evaluated,
    EvaluationRange,
    Executor,
    Job,
    RoundTask,
    ServerHandle,
    Trained,
    environment,
    place,
)
from raysim.execution.cohort import cohort_size
from raysim.execution.plan import actor_memory
from raysim.execution.work import Float32, Int32


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
            self._pool = ClientPool(self._runtime, shared_job, placement, execution)
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

    def train(self, task: RoundTask, server: ServerHandle) -> Trained:
        return self._pool.train(task, server.model)

    def apply(self, task: RoundTask, expected: Int32, server: ServerHandle, trained: Trained) -> Applied:
        began = time.perf_counter()
        sums = self._tree.reduce(trained.sums)
        state, model, seconds = self._aggregator.apply.options(num_returns=3).remote(
            task.round, expected, server.state, server.model, *sums
        )
        with unwrapped(self._runtime.ray):
            _, apply = self._runtime.ray.get(seconds)
        return Applied(ServerHandle(state, model), time.perf_counter() - began - apply, apply)

    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        return self._pool.evaluate(ranges, server.model)

    def save(self, folder: str, server: ServerHandle) -> None:
        self._wait(self._aggregator.save.remote(folder, server.state, server.model))

    def load(self, folder: str) -> ServerHandle:
        state, model = self._aggregator.load.options(num_returns=2).remote(folder)
        self._wait(state)
        return ServerHandle(state, model)

    def export(self, path: str, server: ServerHandle) -> None:
        self._wait(self._aggregator.export.remote(path, server.model))

    def fetch(self, server: ServerHandle) -> Float32:
        with unwrapped(self._runtime.ray):
            model: Float32 = self._runtime.ray.get(server.model)
        return model

    def close(self) -> None:
        if self._runtime.ray.is_initialized():
            self._pool.close()
            self._tree.close()
            self._runtime.ray.kill(self._aggregator)
        self._runtime.close()

    def _wait(self, reference: Any) -> None:
        with unwrapped(self._runtime.ray):
            self._runtime.ray.get(reference)
