"""Large sums travel in chunks, ranges of columns, so that between nodes one chunk moves while another is added up.

A chunk is a `PartialSum` of some columns of every field. Chunks of the same columns are combined like whole sums, and
the server's step reads them where they lie.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from raysim.aggregation.records import WEIGHT, Field, PartialSum, column_mean, union
from raysim.arrays import Float64

CHUNK_BYTES = 32 * 1024 * 1024
"""A sum of more bytes is cut into chunks of about so many at most: long enough that a call is nothing beside it."""


def chunks_of(fields: Sequence[Field]) -> int:
    """Chunks that a sum of these fields is cut into where it travels between nodes; 1 for a sum that is not large."""
    return max(1, -(-sum(field.nbytes for field in fields) // CHUNK_BYTES))


def cut(total: PartialSum, chunks: int) -> list[PartialSum]:
    """A whole sum as so many chunks, views of it, by ascending columns.

    The longest field gives the columns; a chunk has those of every field, and none of a field that ends before them.

    Args:
        chunks: at most as many as the longest field has values.
    """
    if chunks == 1:
        return [total]
    longest = max(len(vector) for vector in total.totals.values())
    bounds = pairwise(longest * i // chunks for i in range(chunks + 1))
    return [
        replace(
            total,
            totals={name: vector[start:stop] for name, vector in total.totals.items()},
            start=start,
            large={name: one.cut(start, stop) for name, one in total.large.items()},
        )
        for start, stop in bounds
    ]


class ColumnSums:
    """Disjoint sums, whole or in chunks, that are read by columns without joining what lies apart.

    Attributes:
        round: the round that they belong to.
        positions: of all their clients, sorted.
        weight: sum of all their weights, in units of 2^-52.
    """

    def __init__(self, sums: Sequence[PartialSum], fields: Sequence[Field]) -> None:
        """Take them up; chunks of the same columns come in the same order of their sums.

        Raises:
            ValueError: see `union`; or the chunks do not make up sums of these fields.
        """
        by_start: dict[int, list[PartialSum]] = {}
        for part in sums:
            by_start.setdefault(part.start, []).append(part)
        self._starts = sorted(by_start)
        self._parts = [by_start[start] for start in self._starts]
        first = self._parts[0] if self._parts else []
        self.positions, self.weight = union(first)
        self.round = first[0].round
        if not all(_same_clients(first, others) for others in self._parts[1:]):
            raise ValueError("the chunks of the partial sums are not of the same clients")
        for field in fields:
            if sum(len(parts[0].totals[field.name]) for parts in self._parts) != field.size:
                raise ValueError(f"chunks of the partial sums are missing: {field.name!r} has {field.size} values")

    def mean(self, field: Field, columns: slice) -> Float64:
        """The weighted mean of one field in these columns, or its sum where the field says so."""
        weight = self.weight / WEIGHT.scale
        first, end = bisect_right(self._starts, columns.start) - 1, bisect_left(self._starts, columns.stop)
        if end - first <= 1:
            return column_mean(self._parts[first], field, weight, _from(self._starts[first], columns))
        found = np.empty(columns.stop - columns.start)
        for start, parts in zip(self._starts[first:end], self._parts[first:end], strict=True):
            place = max(0, start - columns.start)
            one = column_mean(parts, field, weight, _from(start, columns))
            found[place : place + len(one)] = one
        return found


def _from(start: int, columns: slice) -> slice:
    """Columns, counted from this one on."""
    return slice(max(0, columns.start - start), columns.stop - start)


def _same_clients(sums: Sequence[PartialSum], others: Sequence[PartialSum]) -> bool:
    return len(sums) == len(others) and all(
        one.round == other.round and one.weight == other.weight and np.array_equal(one.positions, other.positions)
        for one, other in zip(sums, others, strict=True)
    )
