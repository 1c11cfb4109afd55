"""Work of a round on the client actors: pieces that wait for an idle actor, calls that are out, and results."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook
from raysim.cluster.states import KeptAfter
from raysim.errors import RaysimError, RunError
from raysim.evaluation.ranges import clients_of, gathered, spread
from raysim.rounds.faults import CallFailure, Fault, elsewhere
from raysim.rounds.ranges import Evaluated, EvaluationRange, PromptRange, passes


@dataclass(frozen=True, slots=True)
class FlightContext:
    """What every flight of a pool shares.

    Attributes:
        book: policies for failed work, and the record of faults.
        node_of: the node of a worker.
        suits: whether a worker may train clients of a class.
        fatal_error: the error that ends the run, where what was lost cannot be done again.
    """

    book: FaultBook
    deadlines: Deadlines
    node_of: Callable[[int], str]
    suits: Callable[[int, int], bool]
    fatal_error: Callable[[CallFailure], RaysimError | None]


@dataclass(slots=True, eq=False)
class QueuedPiece:
    """A queued piece and the workers that it failed on; compared by identity."""

    piece: Any
    failed: frozenset[int] = frozenset()


@dataclass(slots=True)
class Call:
    """A piece that an actor works on.

    Attributes:
        worker: the one that has it.
        node: where that is.
        kept: what the flight wants back beside the result.
        limit: seconds that it may take, from when it was given out and its model was there.
        given: when that was, by the monotonic clock.
    """

    flight: Flight
    queued: QueuedPiece
    worker: int
    node: str
    kept: Any
    limit: float
    given: float = field(default_factory=time.monotonic)

    @property
    def piece(self) -> Any:
        """The piece itself."""
        return self.queued.piece

    @property
    def due(self) -> float:
        """When the answer must be there, as far as is known."""
        return max(self.given, self.flight.ready_since or 0.0) + self.limit


class Flight(ABC):
    """Pieces of work for several actors. An error is kept until the flight is waited for.

    Attributes:
        model: reference of the model that the work is done with.
        ready_since: when that was seen to be there, by the monotonic clock: calls that wait for it cannot be late.
        out: calls that are not answered.
        abandoned: answers are ignored.
        due: the first round that waits for some of it: its pieces go before those of flights that are due later.
    """

    def __init__(self, context: FlightContext, round_number: int, model: Any, due: int | None = None) -> None:
        self.context, self.round, self.model = context, round_number, model
        self.due = round_number if due is None else due
        self.ready_since: float | None = None
        self.abandoned = False
        self.out = 0
        self.error: Exception | None = None
        self.queue: deque[QueuedPiece] = deque()
        self.up: frozenset[int] = frozenset()
        self._suited: dict[int, frozenset[int]] = {}

    @property
    def landed(self) -> bool:
        """Whether nothing is left to do."""
        return self.error is not None or self.abandoned or not (self.out or self.waiting)

    @property
    def waiting(self) -> bool:
        """Whether there are pieces to give out."""
        return bool(self.queue)

    def piece_for(self, worker: int, *, near: bool) -> QueuedPiece | None:
        """The next piece for this idle worker: one that did not fail on it, as long as others are up.

        Args:
            near: none whose rows lie on another node.
        """
        for queued in self.queue:
            if near and getattr(queued.piece, "home", None) not in (None, self.context.node_of(worker)):
                continue
            suited = self.suited(queued.piece)
            if worker in (elsewhere(suited, queued.failed, self.context.node_of) if queued.failed else suited):
                self.queue.remove(queued)
                return queued
        return None

    def started(self) -> None:
        """The model is there."""
        self.ready_since = self.ready_since or time.monotonic()

    def reassign(self, up: frozenset[int]) -> None:
        """Only these workers are up."""
        if up != self.up:
            self.up = up
            self._suited.clear()

    def suited(self, piece: Any) -> frozenset[int]:
        """Workers that are up and may have the piece: those of its clients' class, and others that suit them."""
        group = getattr(piece, "group", None)
        if group is None:
            return self.up
        if group not in self._suited:
            self._suited[group] = frozenset(w for w in self.up if self.context.suits(w, group))
        return self._suited[group]

    @abstractmethod
    def limit(self, piece: Any) -> float:
        """Seconds that a call with this piece may take."""

    @abstractmethod
    def send(self, actor: Any, node: str, piece: Any) -> tuple[Any, Any]:
        """Call the actor on this node; a reference to wait for, and what to keep beside it."""

    @abstractmethod
    def receive(self, call: Call, result: Any) -> bool:
        """Take an actor's answer; returns whether it was still wanted."""

    @abstractmethod
    def lost(self, call: Call, failure: CallFailure) -> None:
        """Handle a failed call: retry its piece, or apply the configured policy."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """Some ranges to evaluate, on their `attempt`-th retry.

    Attributes:
        home: node with most of what the clients keep that are evaluated with models of their own.
    """

    ranges: list[EvaluationRange]
    attempt: int = 0
    home: str | None = None


class Evaluation(Flight):
    """Ranges in consecutive pieces, one for each worker that is up.

    Attributes:
        results: in any order.
        seconds: of arithmetic, of all workers together.
        wall: seconds from the first piece given out to the last that came back.
    """

    def __init__(
        self,
        context: FlightContext,
        round_number: int,
        ranges: Sequence[EvaluationRange],
        model: Any,
        workers: int,
        kept: KeptAfter | None = None,
        shared: Any = None,
    ) -> None:
        """Where clients' own models are evaluated, `kept` is what they keep, and `shared` what they may read."""
        super().__init__(context, round_number, model, due=round_number + 1)
        self._kept, self._shared = kept, shared
        for piece in spread(ranges if kept is None else _by_node(ranges, kept), max(1, workers)):
            self.queue.append(
                QueuedPiece(Ranges(piece, home=None if kept is None else kept.states.home(clients_of(piece))))
            )
        self._began: float | None = None
        self._out: dict[int, Ranges] = {}
        self.results: list[Evaluated] = []
        self.seconds = self.wall = 0.0

    def limit(self, piece: Ranges) -> float:
        return sum(self.context.deadlines.of(what, times) for what, times in _kinds(piece.ranges).items())

    def send(self, actor: Any, node: str, piece: Ranges) -> tuple[Any, Any]:
        self._began = self._began or time.perf_counter()
        self._out[id(piece)] = piece
        kept = [] if self._kept is None else self._kept.read(clients_of(piece.ranges), node)
        return actor.evaluate.remote(piece.ranges, self.model, self._shared, *kept), None

    def receive(self, call: Call, result: tuple[list[Evaluated], float]) -> bool:
        if self._out.pop(id(call.piece), None) is None:
            return False
        self.results += result[0]
        self.seconds += result[1]
        for what, times in _kinds(call.piece.ranges).items():
            self.context.deadlines.saw(what, result[1], times)
        if self._began is not None:
            self.wall = time.perf_counter() - self._began
        return True

    def lost(self, call: Call, failure: CallFailure) -> None:
        """Retry, or end the run: an evaluation has no client to drop."""
        piece: Ranges = call.piece
        self._out.pop(id(piece), None)
        self.error = self.error or self.context.fatal_error(failure)
        if self.error is not None:
            return
        book, failed = self.context.book, call.queued.failed | {call.worker}
        again = book.policy(failure.kind) != "fail" and piece.attempt < book.max_retries
        if failure.kind == "error" and call.queued.failed:
            again = False  # the same on two actors, or twice on the only one
        if again:
            self.queue.appendleft(QueuedPiece(replace(piece, attempt=piece.attempt + 1), failed))
        elif failure.kind in ("data", "error"):
            self.error = failure.error
        else:
            self.error = RunError(
                f"round {self.round}: an evaluation was lost {piece.attempt + 1} times, the last time because "
                f"{failure.reason}"
            )
            self.error.__cause__ = failure.error
        if isinstance(self.error, RaysimError):
            self.error.round = self.round
        then = "evaluated again" if again else "the run ends"
        who = f"actor {call.worker}, evaluating"
        book.add(Fault(failure.kind, who, failure.reason, then, self.round, piece.attempt), again=int(again))


def _kinds(ranges: Sequence[EvaluationRange]) -> dict[str, int]:
    """How many ranges are measured, and how many tokens written: the one says nothing of what the other takes."""
    measured = sum(not isinstance(part, PromptRange) for part in ranges)
    counts = {"evaluation": measured, "text": passes(ranges) - measured}
    return {what: times for what, times in counts.items() if times}


def _by_node(ranges: Sequence[EvaluationRange], kept: KeptAfter) -> list[EvaluationRange]:
    """The ranges, holdouts cut anew so that each range has clients whose rows lie on one node, node by node."""
    return gathered(ranges, list(kept.states.by_node(clients_of(ranges)).values()))
