"""The executor without Ray: one worker and the server in this process. The same round, for laptops and unit tests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysim.execution.environment import bits_fingerprint, environment
from raysim.execution.executor import Executor
from raysim.execution.server import Server
from raysim.execution.work import (
    Applied,
    Evaluated,
    EvaluationRange,
    Float32,
    Int32,
    Job,
    Lease,
    RoundTask,
    ServerHandle,
    Trained,
)
from raysim.execution.worker import ClientWorker


class InProcessExecutor(Executor):
    """Trains a cohort as one lease, here."""

    name = "inprocess"
    workers = 1

    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker, self.server = ClientWorker(job, index=0), Server(job)

    def environment(self) -> dict[str, Any]:
        return environment(bits_fingerprint(self.job.engine))

    def first(self) -> ServerHandle:
        return ServerHandle(*self.server.first())

    def train(self, task: RoundTask, server: ServerHandle) -> Trained:
        began = time.perf_counter()
        total, report = self.worker.train(Lease.of(task, np.arange(len(task.clients))), server.model)
        return Trained((total,), (report,), 1, time.perf_counter() - began, broadcasts=1)

    def apply(self, task: RoundTask, expected: Int32, server: ServerHandle, trained: Trained) -> Applied:
        state, model, (reduce, apply) = self.server.apply(
            task.round, expected, server.state, server.model, *trained.sums
        )
        return Applied(ServerHandle(state, model), reduce, apply)

    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        return self.worker.evaluate(ranges, server.model)

    def save(self, folder: str, server: ServerHandle) -> None:
        self.server.save(folder, server.state, server.model)

    def load(self, folder: str) -> ServerHandle:
        return ServerHandle(*self.server.load(folder))

    def export(self, path: str, server: ServerHandle) -> None:
        self.server.export(path, server.model)

    def fetch(self, server: ServerHandle) -> Float32:
        model: Float32 = server.model
        return model

    def close(self) -> None:
        return
