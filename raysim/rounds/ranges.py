"""Ranges of samples or clients that are evaluated by themselves, and what was measured over one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from raysim.arrays import Float64, Int64
from raysim.training import ExactSums
from raysim.training.metrics import PairCounts, Scores


@dataclass(frozen=True, slots=True)
class ServerRange:
    """Evaluate the model on samples `[start, stop)` of the server's set."""

    part: Literal["validation", "test"]
    start: int
    stop: int

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"evaluating samples {self.start} to {self.stop - 1} of the {self.part} set"


@dataclass(frozen=True, slots=True)
class ClientRange:
    """Evaluate the model on what these clients, `[n]`, have for it (`client_sets`), each by itself."""

    clients: Int64

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"evaluating {_some(self.clients)}"


@dataclass(frozen=True, slots=True)
class NodeRange:
    """Evaluate the models of these nodes, `[n]`, each on all of the server's set."""

    part: Literal["validation", "test"]
    nodes: Int64

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"evaluating the models of {_some(self.nodes)} on the {self.part} set"


@dataclass(frozen=True, slots=True)
class TrainRange:
    """The loss of the broadcast model on all training samples of these clients, `[n]`, each by itself."""

    clients: Int64

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"the training loss of {_some(self.clients)}"


@dataclass(frozen=True, slots=True)
class PromptRange:
    """Have the model write behind a prompt.

    Attributes:
        prompt: its number.
        ids: of its tokens.
        tokens: to write at most.
        temperature: 0 takes the likeliest token.
        end: id of the token that ends a text; None where there is none.
    """

    prompt: int
    ids: tuple[int, ...]
    tokens: int
    temperature: float
    end: int | None

    @property
    def text(self) -> str:
        """For the line of an error."""
        return f"writing behind prompt {self.prompt + 1}"


def passes(ranges: Iterable[EvaluationRange]) -> int:
    """Forward passes of these ranges, by which their costs are compared: one each, and one a token of a text."""
    return sum(part.tokens if isinstance(part, PromptRange) else 1 for part in ranges)


def _some(clients: Int64) -> str:
    return f"client {clients[0]}" if len(clients) == 1 else f"clients {clients[0]}, …"


EvaluationRange = ServerRange | ClientRange | NodeRange | TrainRange | PromptRange


@dataclass(frozen=True, slots=True)
class Continuation:
    """What the model wrote behind a prompt.

    Attributes:
        prompt: its number.
        ids: of the tokens behind it, without the one that ends a text.
    """

    prompt: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was measured over a range: for a `ServerRange` one row of sums, exact integers in units of 2^-40, `scores`
    where a metric looks at their order, and which classes were `confused` with which where samples have one each; for
    a `ClientRange`, for each set of the clients' own, a row of the metrics' values for each client that has it, and
    another as it was `untuned` where models are fine-tuned; for a `NodeRange` a row of them for each node; for a
    `TrainRange` each client's mean and mean squared
    loss; for a `PromptRange` no sums, but what was `written`."""

    part: Literal[
        "validation", "test", "holdout", "client test", "validation of nodes", "test of nodes", "train", "text"
    ]
    sums: ExactSums | Float64
    clients: Int64 | None = None
    untuned: Float64 | None = None
    scores: Scores | None = None
    confused: PairCounts | None = None
    written: Continuation | None = None
