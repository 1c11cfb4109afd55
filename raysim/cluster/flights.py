"""Work of a round that is out at the client actors: pieces for whoever is idle, and what has come back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from raysim.cluster.reduction import NodeSum
from raysim.cluster.states import Written
from raysim.errors import RunError
from raysim.execution import Evaluated, EvaluationRange, Lease, LeaseReport, RoundTask, Trained, spread
from raysim.execution.evaluation import clients_of
from raysim.execution.work import Int64


class Flight(ABC):
    """Pieces of work for several actors. An error is kept until somebody waits for the flight."""

    def __init__(self, model: Any) -> None:
        self.model, self.out = model, 0
        self.error: Exception | None = None

    @property
    def landed(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is not None or not (self.out or self.waiting)

    @property
    @abstractmethod
    def waiting(self) -> bool:
        """Whether there are pieces to give out."""

    @abstractmethod
    def piece_for(self, worker: int) -> Any:
        """The next piece for this idle worker, or None."""

    @abstractmethod
    def send(self, actor: Any, piece: Any) -> tuple[Any, Any]:
        """Call the actor; a reference to wait for, and what to keep beside it."""

    @abstractmethod
    def receive(self, worker: int, node: str, kept: Any, result: Any) -> None:
        """Take what an actor came back with."""

    @abstractmethod
    def lost(self, piece: Any, error: Exception) -> None:
        """An actor died with this piece in hand: somebody does it again."""

    def reassign(self, up: set[int]) -> None:
        """Only these workers are up: what was meant for another one, anybody may do."""
        return


class Training(Flight):
    """A cohort's leases: a first one for each worker, the rest for whoever is idle.

    Attributes:
        busy: seconds of arithmetic, by worker.
        written: what the leases left of what clients keep.
    """

    def __init__(
        self,
        task: RoundTask,
        model: Any,
        first: dict[int, Lease],
        rest: Sequence[Lease],
        max_retries: int,
        *,
        shared: Any = None,
        kept: Callable[[Int64], list[Any]] | None = None,
    ) -> None:
        """`shared` is what clients may read of the server's state, `kept` finds what they keep from round to round."""
        super().__init__(model)
        self.task, self._first, self._rest, self._max_retries = task, first, deque(rest), max_retries
        self._shared, self._kept = shared, kept
        self._began = time.perf_counter()
        self._wall = 0.0
        self._sums: list[NodeSum] = []
        self._reports: list[LeaseReport] = []
        self.busy: dict[int, float] = {}
        self.written: list[Written] = []

    @property
    def waiting(self) -> bool:
        return bool(self._first or self._rest)

    def piece_for(self, worker: int) -> Lease | None:
        return self._first.pop(worker, None) or (self._rest.popleft() if self._rest else None)

    def send(self, actor: Any, piece: Lease) -> tuple[Any, Any]:
        kept = [] if self._kept is None else self._kept(piece.clients)
        total, rows, report = actor.train.options(num_returns=3).remote(piece, self.model, self._shared, *kept)
        return report, (total, rows)

    def receive(self, worker: int, node: str, kept: Any, result: LeaseReport) -> None:
        self._reports.append(result)
        total, rows = kept
        self._sums.append(NodeSum(total, node))
        if len(result.keepers):
            self.written.append(Written(rows, result.keepers, node))
        self.busy[worker] = self.busy.get(worker, 0.0) + sum(result.seconds.values())
        self._wall = time.perf_counter() - self._began

    def lost(self, piece: Lease, error: Exception) -> None:
        if piece.attempt >= self._max_retries:
            self.error = RunError(
                f"round {piece.round}: a lease of {len(piece.clients)} clients (first {piece.clients[0]}) was lost "
                f"{piece.attempt + 1} times; its actor died each time ({str(error).splitlines()[0]})"
            )
            self.error.__cause__ = error
        self._rest.appendleft(replace(piece, attempt=piece.attempt + 1))

    def reassign(self, up: set[int]) -> None:
        for worker in self._first.keys() - up:
            self._rest.append(self._first.pop(worker))

    def trained(self) -> Trained:
        """What came back, once it has landed."""
        return Trained(tuple(self._sums), tuple(self._reports), len(self.busy), self._wall, len(self._reports))


class Evaluation(Flight):
    """Ranges in consecutive pieces, one for each worker that is up.

    Attributes:
        results: in any order.
        seconds: of arithmetic, of all workers together.
        wall: seconds from the first piece given out to the last that came back.
    """

    def __init__(
        self,
        ranges: Sequence[EvaluationRange],
        model: Any,
        workers: int,
        kept: Callable[[Int64], list[Any]] | None = None,
    ) -> None:
        """`kept` finds what clients keep, where their own models are evaluated."""
        super().__init__(model)
        self._kept = kept
        self._pieces = deque(spread(ranges, max(1, workers)))
        self._began: float | None = None
        self.results: list[Evaluated] = []
        self.seconds = self.wall = 0.0

    @property
    def waiting(self) -> bool:
        return bool(self._pieces)

    def piece_for(self, worker: int) -> list[EvaluationRange] | None:
        return self._pieces.popleft() if self._pieces else None

    def send(self, actor: Any, piece: list[EvaluationRange]) -> tuple[Any, Any]:
        self._began = self._began or time.perf_counter()
        kept = [] if self._kept is None else self._kept(clients_of(piece))
        return actor.evaluate.remote(piece, self.model, *kept), None

    def receive(self, worker: int, node: str, kept: Any, result: tuple[list[Evaluated], float]) -> None:
        self.results += result[0]
        self.seconds += result[1]
        if self._began is not None:
            self.wall = time.perf_counter() - self._began

    def lost(self, piece: list[EvaluationRange], error: Exception) -> None:
        self._pieces.appendleft(piece)
