"""Rules: how the records of a round's clients become one mean.

A rule has four parts, and says what they need: an accumulator on the worker (`fold`, `seal`), records that are combined
anywhere (`combine`, a commutative monoid), a last step on the server (`finish`), and metrics. Worker, reducer, server,
memory plan and recorder ask the rule; none of them asks which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.records import ColumnSums, Field, FieldMeans, PartialSum, Record
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.arrays import Float64, Int32, Int64

Road = Literal["sum", "rows"]
"""How records travel: summed where they are made, or as rows, one for each client."""


class Accumulator(Protocol):
    """A worker's records of a lease so far; `fold` blocks of clients, then `seal`."""

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        """Add a block of clients (see `RunningSum.fold`); for each client None, or why it was left out."""

    def seal(self) -> Record:
        """The record so far; nothing may be folded afterwards."""


class ServerView(Protocol):
    """What the last step of a rule may ask the server.

    Attributes:
        round: from 1.
        seed: of the experiment.
    """

    @property
    def round(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def computing(self) -> AbstractContextManager[Any]:
        """Torch for this thread alone, with the run's number of threads and without gradients."""

    def losses(self, means: Sequence[Mapping[str, Float64]]) -> Float64:
        """Losses `[c]` on the server's validation set of the models that the algorithm would make of these means."""


@dataclass(frozen=True, slots=True)
class Finished:
    """What a rule made of a round's records.

    Attributes:
        mean: of each field, read by ranges of columns.
        fields: what there is in the mean, where it is not the rule's fields.
        weights: of the clients that contributed, by position, `[k]`, summing to 1; None: those that they came with.
        metrics: what is recorded of it, the names of `Rule.metrics`.
    """

    mean: FieldMeans
    weights: Float64 | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    fields: Sequence[Field] | None = None


class Rule(ABC):
    """How the records of a round's clients become one mean.

    Contract: `finish` is a pure function of the records and of what it asks the server, and depends neither on the
    order nor on the grouping of the records. Everything that lasts is in the records.

    Attributes:
        fields: of a record, each with the format that it is kept in.
    """

    road: ClassVar[Road]
    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of what it records in rounds.parquet."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)

    def check(self, *, clients: int, validation: bool) -> None:
        """Refuse an experiment that the rule is not made for.

        Args:
            clients: of a cohort.
            validation: whether the server has a validation set.

        Raises:
            ConfigError: names the key and the remedy.
        """
        return

    def in_round(self, number: int) -> Rule:
        """The rule of this round, where it is another one in some rounds."""
        return self

    @abstractmethod
    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        """An empty accumulator on a device; `buffers` and `named` are those of `RunningSum`."""

    @abstractmethod
    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        """The mean over the records of disjoint clients, which sum to a weight above 0."""

    @abstractmethod
    def worker_bytes(self, clients: int) -> int:
        """Bytes of an accumulator that has folded this many clients."""

    @abstractmethod
    def record_bytes(self, records: int, clients: int) -> int:
        """Bytes in which records of this many clients travel together."""


class WeightedMean(Rule):
    """The weighted mean Σ w x / Σ w, summed on the way."""

    road = "sum"

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        return RunningSum(round_number, self.fields, device, buffers, named)

    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        return Finished(ColumnSums([one for one in records if isinstance(one, PartialSum)]))

    def worker_bytes(self, clients: int) -> int:
        return sum(field.nbytes for field in self.fields)

    def record_bytes(self, records: int, clients: int) -> int:
        return records * (8 + sum(field.nbytes for field in self.fields)) + 4 * clients
