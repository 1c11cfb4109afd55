"""Rules: how the records of a round's clients become one mean.

A rule has four parts, and says what they need: an accumulator on the worker (`fold`, `seal`), records that are combined
anywhere (`combine`, a commutative monoid), a last step on the server (`finish`), and metrics. Worker, reducer, server,
memory plan and recorder ask the rule; none of them asks which one it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.protocol import Peers, RoundProtocol, SumOpening
from raysim.aggregation.records import ColumnSums, Field, FieldMeans, PartialSum, Record
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.arrays import Array, Float64, Int32, Int64

Road = Literal["sum", "rows", "modular"]
"""How records travel: summed where they are made; as rows, one for each client; or summed where they are made as masked
or encrypted integers, which are opened on the server."""

Integers = Callable[[Mapping[str, Array], Int64, Sequence[Field], int], None]
"""Changes integer sums `[size]` by field in place: the sums, the clients in them `[k]`, the fields in the formats of
this round, and the size of the cohort."""


_FLOAT32 = 4


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
        opening: what the rule's protocol came to, where it has one.
    """

    @property
    def round(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def opening(self) -> SumOpening | None: ...

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
        protocol: what clients and the server tell each other besides the records; None: nothing.
    """

    road: ClassVar[Road]
    encodes: ClassVar[bool] = False
    """Whether it encodes records for the wire itself, whatever stages do before it."""
    metrics: ClassVar[tuple[str, ...]] = ()
    """Names of what it records in rounds.parquet."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.protocol: RoundProtocol | None = None

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

    def among(self, peers: Peers, seed: int, round_number: int, integers: Integers) -> Rule:
        """The rule in a lease of a round with a protocol.

        Args:
            peers: what clients know of one another.
            integers: the stages' last word on integer sums, before they are masked.
        """
        return self

    def opened(self, records: Sequence[Record], opening: SumOpening | None, seed: int) -> Sequence[Record]:
        """The records as `finish` takes them, once their cohort is checked.

        Raises:
            RunError: they do not open.
        """
        return records

    def message_bytes(self, values: Sequence[int], round_number: int, clients: Int64) -> Int64:
        """Bytes of each of these clients' messages `[k]` where no stage encodes them: float32.

        Args:
            values: of each field, without padding.
        """
        return field_bytes(self.fields, values, round_number, clients)

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


def field_bytes(fields: Sequence[Field], values: Sequence[int], round_number: int, clients: Int64) -> Int64:
    """Bytes of fields in float32 in each client's message, `[k]`.

    Args:
        values: of each field, without padding.
    """
    count = np.zeros(len(clients), dtype=np.int64)
    for one, size in zip(fields, values, strict=True):
        count += size if one.sent is None else one.sent(round_number, clients)
    return _FLOAT32 * count


class WeightedMean(Rule):
    """The weighted mean Σ w x / Σ w, summed on the way."""

    road: ClassVar[Road] = "sum"

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
