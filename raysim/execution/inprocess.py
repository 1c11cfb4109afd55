"""The executor without Ray: one worker and the server in this process. The same round, for laptops and unit tests."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from raysim.execution.environment import bits_fingerprint, environment
from raysim.execution.executor import Executor
from raysim.execution.server import Server
from raysim.execution.small_rounds import whole_round
from raysim.execution.work import Float32, Job, RoundDone, RoundWork, ServerHandle
from raysim.execution.worker import ClientWorker


class InProcessExecutor(Executor):
    """Works on one round after the other, here; a cohort is one lease."""

    name = "inprocess"
    workers = 1

    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker, self.server = ClientWorker(job, index=0), Server(job)

    def environment(self) -> dict[str, Any]:
        return environment(bits_fingerprint(self.job.engine))

    def first(self) -> ServerHandle:
        return ServerHandle(*self.server.first())

    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        for work in works:
            facts, server = whole_round(self.worker, self.server, work, server)
            yield RoundDone(facts, server)

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
