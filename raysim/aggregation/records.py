"""What clients send, summed where it was made: one partial sum for a lease of clients.

A record has named fields, each a vector with its own format. A partial sum adds up `w·field` over the clients that it
names by their position in the round's cohort. Records form a commutative monoid; `combine` refuses overlapping ones, so
that work done twice (a lease given out again) cannot be counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeVar

import numpy as np

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum
from raysim.aggregation.large import LargeSum, add_large
from raysim.arrays import Array, Float64, Int32, Int64

UPDATE = FixedPoint(52)
"""Format of model updates."""
WEIGHT = FixedPoint(52)
"""Format of the sum of weights."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: a vector of `size` values a client.

    Attributes:
        summed: the server takes the sum Σ p_k x_k over those who made it as it is, and not divided by their weights.
        constant: its values do not depend on the client's data, or are recorded and nothing else; norms of records are
            without it.
        statistic: a number about the client's data or work and no direction to go: scaled down along with an update it
            would be false.
        kept: the server takes it of every client by itself as well, `[k, size]` one after the other under the name with
            `.rows` added, and their weights under `rows.weights`, `[k]`, normalised.
        parts: into how many parts the clients fall whose means the server takes as well, one after the other under the
            name with `.parts` added, zero for parts without a client, and their weights under `parts.weights`,
            summing to 1; 0: none. Clients name their part in the field `part` (`raysim.aggregation.parts`).
        sent: of a round and clients `[k]`, how many of its values each would send in a federation, int64 `[k]`; None:
            all of them.
        received: of a round and clients `[k]`, how many values each would be sent beside the model, or in place of it,
            int64 `[k]`; None: none.
    """

    name: str
    size: int
    format: FixedPoint | FloatSum = UPDATE
    summed: bool = False
    constant: bool = False
    statistic: bool = False
    kept: bool = False
    parts: int = 0
    sent: Callable[[int, Int64], Int64] | None = None
    received: Callable[[int, Int64], Int64] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its total in a partial sum."""
        return self.size * self.format.dtype.itemsize


def nothing(round_number: int, clients: Int64) -> Int64:
    """Of a field that the server would know by itself: no values."""
    return np.zeros(len(clients), dtype=np.int64)


class Record(Protocol):
    """What a lease hands over of its clients. Records of disjoint clients form a commutative monoid (`combine`)."""

    @property
    def round(self) -> int:
        """The round that it belongs to."""
        ...

    @property
    def positions(self) -> Int32:
        """Of the clients, sorted."""
        ...

    @property
    def weight(self) -> int:
        """Sum of their weights, in units of 2^-52."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        ...

    def joined(self, parts: Sequence[Self], buffers: Buffers) -> Self:
        """The record of the clients of all parts, at least two, this one the first of them; see `combine`."""
        ...


R = TypeVar("R", bound=Record)


@dataclass(frozen=True, slots=True)
class PartialSum:
    """Sum over some clients of a round.

    Attributes:
        round: the round that it belongs to.
        positions: positions in the cohort of the clients in the sum, sorted, int32.
        weight: sum of their weights, in units of 2^-52.
        totals: for each field the sum of `w·field`, `[size]`: int64, or float32 where sums are not exact.
        large: for fields that had addends out of their format's range, the sum of those; `totals` are without them.
    """

    round: int
    positions: Int32
    weight: int
    totals: Mapping[str, Array]
    large: Mapping[str, LargeSum] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        totals, large = self.totals.values(), self.large.values()
        return self.positions.nbytes + 8 + sum(one.nbytes for one in totals) + sum(one.nbytes for one in large)

    def joined(self, parts: Sequence[PartialSum], buffers: Buffers) -> PartialSum:
        """The sum over the clients of all parts, in new vectors."""
        positions, weight = union(parts)
        totals = {name: buffers.take(len(one), one.dtype) for name, one in self.totals.items()}
        for name, total in totals.items():
            for start in range(0, len(total), _CACHED):  # the total stays in the cache, every part is read once
                columns = slice(start, start + _CACHED)
                _add_up([part.totals[name][columns] for part in parts], total[columns])
        names = dict.fromkeys(name for part in parts for name in part.large)
        large = {name: add_large([part.large[name] for part in parts if name in part.large]) for name in names}
        return PartialSum(self.round, positions, weight, totals, large)


def union(sums: Sequence[Record]) -> tuple[Int32, int]:
    """The clients of disjoint partial sums, as sorted positions, and the sum of their weights in units.

    Raises:
        ValueError: no sums, sums of different rounds, or a client in two of them.
    """
    if not sums:
        raise ValueError("nothing to combine")
    if len(sums) == 1:
        return sums[0].positions, sums[0].weight
    if len({part.round for part in sums}) != 1:
        raise ValueError(f"partial sums of different rounds: {sorted({part.round for part in sums})}")
    positions = np.sort(np.concatenate([part.positions for part in sums]))
    if np.any(positions[1:] == positions[:-1]):
        twice = positions[1:][positions[1:] == positions[:-1]]
        raise ValueError(f"clients at positions {twice[:5].tolist()} of the cohort are in two partial sums")
    return positions, sum(part.weight for part in sums)


def combine(records: Iterable[R], buffers: Buffers | None = None) -> R:
    """The record of the union of the clients; a single one is returned as it is.

    Args:
        records: of one rule, at least one.
        buffers: where to take large vectors from.

    Raises:
        ValueError: see `union`.
    """
    parts = list(records)
    if not parts:
        raise ValueError("nothing to combine")
    return parts[0] if len(parts) == 1 else parts[0].joined(parts, Buffers() if buffers is None else buffers)


def mean(total: PartialSum, fields: Sequence[Field]) -> dict[str, Float64]:
    """The weighted mean of every field, float64 `[size]`.

    Raises:
        ZeroDivisionError: the weights sum to zero.
    """
    if total.weight == 0:
        raise ZeroDivisionError("the weights sum to zero")  # NumPy would only warn
    weight = total.weight / WEIGHT.scale
    return {one.name: column_mean([total], one, weight, slice(0, one.size)) for one in fields}


class FieldMeans(Protocol):
    """Means over a round's clients, read field by field, by ranges of columns."""

    def mean(self, field: Field, columns: slice) -> Float64:
        """The mean of one field in these columns, or its sum where the field says so."""
        ...


class NoClients:
    """The means of a round to which no client contributed: zeros."""

    def mean(self, field: Field, columns: slice) -> Float64:
        """Zeros."""
        return np.zeros(columns.stop - columns.start)


class ColumnSums:
    """Disjoint sums of a round, read by ranges of columns without adding up whole vectors first.

    Attributes:
        round: the round that they belong to.
        positions: of all their clients, sorted.
        weight: sum of all their weights, in units of 2^-52.
    """

    def __init__(self, sums: Sequence[PartialSum]) -> None:
        """Keep the sums, without a copy.

        Raises:
            ValueError: see `union`.
        """
        self._sums = sums
        self.positions, self.weight = union(sums)
        self.round = sums[0].round

    def mean(self, field: Field, columns: slice) -> Float64:
        """The weighted mean of one field in these columns, or its sum where the field says so."""
        return column_mean(self._sums, field, self.weight / WEIGHT.scale, columns)


def column_mean(sums: Sequence[PartialSum], of: Field, weight: float, columns: slice) -> Float64:
    """The weighted mean of one field over disjoint sums, or their sum where the field says so, in these columns.

    Args:
        weight: the sum of all weights, above 0.
    """
    parts = [part.totals[of.name][columns] for part in sums]
    total = parts[0] if len(parts) == 1 else _add_up(parts, np.empty(len(parts[0]), parts[0].dtype))
    found = of.format.decode(total)
    if isinstance(of.format, FixedPoint) and (large := [part.large[of.name] for part in sums if of.name in part.large]):
        beyond = add_large([one.cut(columns.start, columns.stop) for one in large])
        found[beyond.columns] += beyond.decode(of.format)
    if not of.summed:
        found /= weight
    return found


def _add_up(parts: Sequence[Array], out: Array) -> Array:
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.add(out, part, out=out)
    return out


_CACHED = 1 << 15
"""Elements of a total that stay in the second-level cache while parts are added to them."""
