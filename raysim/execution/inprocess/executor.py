"""The executor without Ray: one worker and the server in this process. The same round, for laptops and unit tests."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from raysim.arrays import Float32
from raysim.execution.clients.state import ClientStates
from raysim.execution.clients.state_store import StateStore, StoredStates, load_pieces, save_piece
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.inprocess.whole_round import Waiting, whole_round
from raysim.execution.server.server import Server
from raysim.rounds.environment import bits_fingerprint, environment
from raysim.rounds.executor import Executor
from raysim.rounds.job import Job
from raysim.rounds.ranges import Evaluated, EvaluationRange
from raysim.rounds.results import RoundDone, ServerHandle
from raysim.rounds.task import RoundWork


class InProcessExecutor(Executor):
    """Works on one round after the other, here; a cohort is one lease."""

    name = "inprocess"
    workers = 1

    def __init__(self, job: Job) -> None:
        self.job = job
        self.worker, self.server = ClientWorker(job, index=0), Server(job)
        execution, width = job.experiment.execution, self.worker.states.width
        population = self.worker.federation.population
        self._store = StateStore(population, width, execution.state_memory, execution.scratch) if width else None

    def environment(self) -> dict[str, Any]:
        return environment(bits_fingerprint(self.job))

    def first(self) -> ServerHandle:
        return self._handle(*self.server.first())

    def rounds(self, works: Iterator[RoundWork], server: ServerHandle) -> Generator[RoundDone]:
        if self._store is not None:
            self._store.roll_back(server.version)
        waiting = Waiting()
        for work in works:
            facts, server = whole_round(self.worker, self.server, work, server, self._store, waiting)
            yield RoundDone(facts, server)

    def evaluate(self, ranges: Sequence[EvaluationRange], server: ServerHandle) -> list[Evaluated]:
        return self.worker.evaluate(ranges, server.model)

    def states(self, server: ServerHandle, round_number: int) -> ClientStates | None:
        """What clients keep, as a round finds it that follows this server."""
        return None if self._store is None else StoredStates(self._store, server.version, round_number)

    def save(self, folder: str, server: ServerHandle) -> None:
        self.server.save(folder, server.state, server.model, server.older)
        if self._store is not None:
            for number in range(self._store.pieces(server.version)):
                save_piece(folder, number, self._store.piece(server.version, number))

    def load(self, folder: str) -> ServerHandle:
        state, model = self.server.load(folder)
        if self._store is not None:
            self._store.clear()
            for piece in load_pieces(folder, self.worker.states.width):
                self._store.write(0, piece.clients, piece.rows)
        return replace(self._handle(state, model), older=self.server.load_older(folder))

    def export(self, path: str, server: ServerHandle) -> None:
        self.server.export(path, server.model)

    def fetch(self, server: ServerHandle) -> Float32:
        model: Float32 = server.model
        return model

    def close(self) -> None:
        return

    def _handle(self, state: Any, model: Float32) -> ServerHandle:
        """The server before a round of this executor."""
        return ServerHandle(state, model, self.server.shared(state), digest=self.server.digest(state, model))
