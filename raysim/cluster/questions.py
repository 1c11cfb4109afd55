"""Questions of a rule's protocol on their way to the client actors."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from raysim.aggregation import Question
from raysim.cluster.flights import Call, Flight, FlightContext, QueuedPiece
from raysim.errors import RaysimError, RunError
from raysim.rounds.faults import CallFailure, Fault


@dataclass(frozen=True, slots=True)
class _Part:
    """A question to some of its clients, from a place of its answers on, on the `attempt`-th retry."""

    question: Question
    place: int
    attempt: int = 0


class Asking(Flight):
    """A question in consecutive pieces, one for each worker that is up: any worker speaks for any client."""

    def __init__(self, context: FlightContext, question: Question, workers: int) -> None:
        super().__init__(context, question.round, None)
        self.started()  # there is no model to wait for
        self._answers: list[bytes | None] = [None] * len(question.clients)
        self._out: set[int] = set()
        most = max(1, -(-len(question.clients) // max(1, workers)))
        for start in range(0, len(question.clients), most):
            self.queue.append(QueuedPiece(_Part(question.only(slice(start, start + most)), start)))

    @property
    def answers(self) -> list[bytes]:
        """Of all clients, once the flight has landed."""
        return [answer for answer in self._answers if answer is not None]

    def limit(self, piece: _Part) -> float:
        return self.context.deadlines.of("question", len(piece.question.clients))

    def send(self, actor: Any, node: str, piece: _Part) -> tuple[Any, Any]:
        self._out.add(id(piece))
        return actor.answer.remote(piece.question), time.perf_counter()

    def receive(self, call: Call, result: list[bytes]) -> bool:
        piece: _Part = call.piece
        if id(piece) not in self._out:
            return False
        self._out.remove(id(piece))
        self._answers[piece.place : piece.place + len(result)] = result
        self.context.deadlines.saw("question", time.perf_counter() - call.kept, len(result))
        return True

    def lost(self, call: Call, failure: CallFailure) -> None:
        """Put the question again, or end the run."""
        piece: _Part = call.piece
        self._out.discard(id(piece))
        self.error = self.error or self.context.fatal_error(failure)
        if self.error is not None:
            return
        book, again = self.context.book, False
        if failure.kind in ("data", "error"):  # a client refuses
            self.error = failure.error
        elif again := book.policy(failure.kind) != "fail" and piece.attempt < book.max_retries:
            failed = call.queued.failed | {call.worker}
            self.queue.appendleft(QueuedPiece(replace(piece, attempt=piece.attempt + 1), failed))
        else:
            self.error = RunError(
                f"round {self.round}: a message of the aggregation's protocol was lost {piece.attempt + 1} times, the "
                f"last time because {failure.reason}"
            )
            self.error.__cause__ = failure.error
        if isinstance(self.error, RaysimError):
            self.error.round = self.round
        who, then = f"actor {call.worker}, asked for clients", "asked again" if again else "the run ends"
        book.add(Fault(failure.kind, who, failure.reason, then, self.round, piece.attempt), again=int(again))
