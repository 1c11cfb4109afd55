"""The weighted mean of all clients, and beside it that of each part of them: the edges of a hierarchy.

A client adds to one sum, that of its part, which it names in the field `PART`. So a record has as many sums as there
are parts among its clients, and the mean of all is that of all sums, with the bits of `WeightedMean`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.records import ColumnSums, Field, PartialSum, Record, combine, nothing, union
from raysim.aggregation.rules import Accumulator, Finished, Rule, ServerView
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.arrays import Float64, Int32, Int64
from raysim.errors import ConfigError

PART = Field("part", 1, FixedPoint(32), constant=True, sent=nothing)
"""The number of a client's part, which it does not send: whom it sends to knows it."""
OF_PARTS, PART_WEIGHTS = ".parts", "parts.weights"


@dataclass(frozen=True, slots=True)
class PartedSum:
    """Sums over some clients of a round, one for each part that some of them belong to.

    Attributes:
        round: the round that it belongs to.
        parts: of each part its sum.
    """

    round: int
    parts: Mapping[int, PartialSum]

    @property
    def positions(self) -> Int32:
        """Of all clients, sorted."""
        return union(list(self.parts.values()))[0] if self.parts else np.empty(0, dtype=np.int32)

    @property
    def weight(self) -> int:
        """Sum of all weights, in units of 2^-52."""
        return sum(one.weight for one in self.parts.values())

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return sum(8 + one.nbytes for one in self.parts.values())

    def joined(self, parts: Sequence[PartedSum], buffers: Buffers) -> PartedSum:
        """The sums of all records, part by part."""
        union(parts)
        by_part = _by_part(parts)
        return PartedSum(self.round, {part: combine(sums, buffers) for part, sums in by_part.items()})


class RunningParts:
    """A worker's running sums, one for each part, with the interface of `RunningSum`.

    Args:
        empty: makes a sum without clients.
    """

    def __init__(self, round_number: int, empty: Callable[[], RunningSum]) -> None:
        self.round, self._empty = round_number, empty
        self._parts: dict[int, RunningSum] = {}

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        """Add a block of clients, each to the sum of its part (see `RunningSum.fold`)."""
        belongs = sent[PART.name][:, 0].cpu().numpy().astype(np.int64)
        reasons: list[str | None] = [None] * len(positions)
        for part in np.unique(belongs).tolist():
            here = np.flatnonzero(belongs == part)
            if part not in self._parts:
                self._parts[part] = self._empty()
            total = self._parts[part]
            some = sent
            if len(here) < len(positions):
                rows = torch.from_numpy(here).to(next(iter(sent.values())).device)
                some = {name: values[rows] for name, values in sent.items()}
            for place, reason in zip(here.tolist(), total.fold(positions[here], weights[here], some), strict=True):
                reasons[place] = reason
        return reasons

    def seal(self) -> PartedSum:
        """The sums so far."""
        return PartedSum(self.round, {part: self._parts[part].seal() for part in sorted(self._parts)})


class MeanOfParts(Rule):
    """The weighted mean of all fields, and of those with `parts` that of each part, with the parts' weights."""

    road = "sum"

    def __init__(self, fields: Sequence[Field]) -> None:
        super().__init__(fields)
        if PART.name not in {field.name for field in fields}:
            raise ConfigError(f"algorithm: it has sums of several parts, and no field {PART.name!r}; send PART as well")

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        empty = partial(RunningSum, round_number, self.fields, device, Buffers() if buffers is None else buffers, named)
        return RunningParts(round_number, empty)

    def finish(self, records: Sequence[Record], server: ServerView) -> Finished:
        by_part = _by_part([one for one in records if isinstance(one, PartedSum)])
        sums = {part: ColumnSums(found) for part, found in by_part.items()}
        whole = ColumnSums([one for found in by_part.values() for one in found])
        each: dict[str, Any] = {}
        for field in self.fields:
            if field.parts:
                means = np.zeros((field.parts, field.size))
                for part, total in sums.items():
                    if total.weight:
                        means[part] = total.mean(field, slice(0, field.size))
                each[field.name + OF_PARTS] = means.ravel()
                shares = np.zeros(field.parts)
                shares[list(sums)] = [total.weight / whole.weight for total in sums.values()]
                each[PART_WEIGHTS] = shares
        fields = (*self.fields, *(Field(name, len(values)) for name, values in each.items()))
        return Finished(_MeansAndParts(whole, each), fields=fields)

    def worker_bytes(self, clients: int) -> int:
        return self._sums(clients) * sum(field.nbytes for field in self.fields)

    def record_bytes(self, records: int, clients: int) -> int:
        return records * self._sums(clients) * (8 + sum(field.nbytes for field in self.fields)) + 4 * clients

    def _sums(self, clients: int) -> int:
        return max(1, min(clients, max(field.parts for field in self.fields)))


class _MeansAndParts:
    """Means by ranges of columns, and what there is of each part."""

    def __init__(self, means: ColumnSums, each: Mapping[str, Float64]) -> None:
        self._means, self._each = means, each

    def mean(self, field: Field, columns: slice) -> Float64:
        """The mean of a field in these columns, or the part of what is by parts."""
        return self._each[field.name][columns] if field.name in self._each else self._means.mean(field, columns)


def _by_part(records: Sequence[PartedSum]) -> dict[int, list[PartialSum]]:
    """The sums of each part, ascending."""
    numbers = sorted({part for one in records for part in one.parts})
    return {part: [one.parts[part] for one in records if part in one.parts] for part in numbers}
