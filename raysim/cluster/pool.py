"""The client actors: leases go out longest first, come back as sums and facts, and go out again when an actor dies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysim.cluster.actors import ClientActor, JobReference
from raysim.cluster.reduction import NodeSum
from raysim.cluster.runtime import Runtime
from raysim.config.running import ExecutionConfig
from raysim.errors import PlacementError, RaysimError, RunError
from raysim.execution import (
    CostModel,
    Evaluated,
    EvaluationRange,
    Lease,
    LeaseReport,
    Placement,
    RoundTask,
    Trained,
    schedule,
    schedule_by_owner,
    spread,
)

START_SECONDS = 600.0
"""How long actors may take to start, importing torch on a slow machine included."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A lease that an actor works on, and the reference to the sum that it will make."""

    lease: Lease
    worker: int
    total: Any


class ClientPool:
    """All client actors of a run.

    An actor whose call was lost is asked for a sign of life, which comes once Ray has started it again; until then its
    work goes to others. An actor that Ray gives up is not asked again.
    """

    def __init__(self, runtime: Runtime, job: JobReference, placement: Placement, execution: ExecutionConfig) -> None:
        self._ray, self._placement = runtime.ray, placement
        self._clients_per_actor, self._max_retries = execution.clients_per_actor, execution.max_retries
        self._lost = (runtime.ray.exceptions.RayActorError, runtime.ray.exceptions.ActorUnschedulableError)
        self._costs = CostModel()
        self._idle = set(range(placement.actors))
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

    def train(self, task: RoundTask, model: Any) -> Trained:
        """Train a cohort.

        Raises:
            ClientError: a client's own code failed.
            RunError: a lease was lost more often than `execution.max_retries`, or every actor is lost.
        """
        began = time.perf_counter()
        first, waiting = self._plan(task)
        running: dict[Any, _Running] = {}
        sums: list[NodeSum] = []
        reports: list[LeaseReport] = []
        workers: set[int] = set()
        while first or waiting or running:
            for worker in sorted(self._idle):
                lease = first.pop(worker, None) or (waiting.popleft() if waiting else None)
                if lease is not None:
                    self._give(lease, worker, model, running)
            for ready in self._next([*running, *self._reviving]):
                if ready in self._reviving:
                    self._revive(ready)
                    continue
                done = running.pop(ready)
                try:
                    with unwrapped(self._ray):
                        reports.append(self._ray.get(ready))
                except self._lost as error:
                    self._reviving[self._ask(done.worker)] = done.worker
                    waiting.appendleft(self._again(done.lease, error))
                    continue
                self._idle.add(done.worker)
                sums.append(NodeSum(done.total, self._placement.nodes[done.worker]))
                workers.add(done.worker)
            for worker in first.keys() - self._idle - {one.worker for one in running.values()}:
                waiting.append(first.pop(worker))  # its actor is being started again: anybody may do it
        self._learn(reports)
        return Trained(tuple(sums), tuple(reports), len(workers), time.perf_counter() - began, len(reports))

    def evaluate(self, ranges: Sequence[EvaluationRange], model: Any) -> list[Evaluated]:
        """Evaluate a model over ranges, spread over the actors that are up; what an actor loses goes to others."""
        results: list[Evaluated] = []
        while ranges:
            while not self._idle:
                self._revive(self._next(list(self._reviving))[0])
            workers = sorted(self._idle)
            calls = {
                worker: (part, self._actors[worker].evaluate.remote(part, model))
                for worker, part in zip(workers, spread(ranges, len(workers)), strict=False)
            }
            ranges = []
            for worker, (part, call) in calls.items():
                try:
                    with unwrapped(self._ray):
                        results += self._ray.get(call)
                except self._lost:
                    ranges += part
                    self._idle.discard(worker)
                    self._reviving[self._ask(worker)] = worker
        return results

    def close(self) -> None:
        """Stop the actors."""
        for actor in self._actors:
            self._ray.kill(actor)

    def _plan(self, task: RoundTask) -> tuple[dict[int, Lease], deque[Lease]]:
        """The first lease of each worker, and those that wait for whoever is idle."""
        if self._clients_per_actor is not None:
            plan = schedule_by_owner(task.clients // self._clients_per_actor)
        else:
            plan = schedule(self._costs.seconds(task.steps), len(self._actors))
        first = {worker: Lease.of(task, positions) for worker, positions in enumerate(plan.first) if len(positions)}
        return first, deque(Lease.of(task, positions) for positions in plan.rest)

    def _give(self, lease: Lease, worker: int, model: Any, running: dict[Any, _Running]) -> None:
        self._idle.discard(worker)
        total, report = self._actors[worker].train.options(num_returns=2).remote(lease, model)
        running[report] = _Running(lease, worker, total)

    def _next(self, references: list[Any]) -> list[Any]:
        """Whatever is ready, at least one."""
        if not references:
            raise RunError("every client actor is lost; resume the run on healthy nodes")
        ready, _ = self._ray.wait(references, num_returns=1)
        return list(ready)

    def _ask(self, worker: int) -> Any:
        """A sign of life: ready once the actor answers, or is given up."""
        return self._actors[worker].bits.options(max_task_retries=-1).remote()

    def _revive(self, ready: Any) -> None:
        worker = self._reviving.pop(ready)
        with suppress(*self._lost), unwrapped(self._ray):
            self._ray.get(ready)
            self._idle.add(worker)

    def _again(self, lease: Lease, error: Exception) -> Lease:
        if lease.attempt >= self._max_retries:
            raise RunError(
                f"round {lease.round}: a lease of {len(lease.clients)} clients (first {lease.clients[0]}) was lost "
                f"{lease.attempt + 1} times; its actor died each time ({str(error).splitlines()[0]})"
            ) from error
        return replace(lease, attempt=lease.attempt + 1)

    def _learn(self, reports: Sequence[LeaseReport]) -> None:
        steps = np.concatenate([report.facts["steps"].to_numpy() for report in reports])
        seconds = np.concatenate([report.facts["seconds"].to_numpy() for report in reports])
        self._costs.observe(steps, seconds)


@contextmanager
def unwrapped(ray: Any) -> Iterator[None]:
    """Raise raysim's own errors from an actor as they were raised there."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RaysimError):
            raise error.cause from error
        raise
