"""What clients send, summed where it was made: one partial sum for a lease of clients.

A record has named fields, each a vector with its own format. A partial sum adds up `w·field` over the clients that it
names by their position in the round's cohort. Partial sums form a commutative monoid; `combine` refuses overlapping
ones, so that work done twice (a lease given out again) cannot be counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.float_sum import FloatSum

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Total = npt.NDArray[Any]

UPDATE = FixedPoint(52)
"""Format of model updates."""
WEIGHT = FixedPoint(52)
"""Format of the sum of weights."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: a vector of `size` values a client.

    Attributes:
        summed: the server takes the sum Σ p_k x_k over those who made it as it is, and not divided by their weights.
    """

    name: str
    size: int
    format: FixedPoint | FloatSum = UPDATE
    summed: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its total in a partial sum."""
        return self.size * self.format.dtype.itemsize


def sum_fields(fields: Sequence[Field], *, exact: bool) -> tuple[Field, ...]:
    """The fields as they are summed: each in its own fixed point, or all in float32."""
    return tuple(fields if exact else (replace(field, format=FloatSum()) for field in fields))


class Positioned(Protocol):
    """What a lease hands over: records of the clients at these positions of a round's cohort."""

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


@dataclass(frozen=True, slots=True)
class PartialSum:
    """Sum over some clients of a round.

    Attributes:
        round: the round that it belongs to.
        positions: positions in the cohort of the clients in the sum, sorted, int32.
        weight: sum of their weights, in units of 2^-52.
        totals: for each field the sum of `w·field`, `[size]`: int64, or float32 where sums are not exact.
        start: the first of the columns that it has of each field, if it is a chunk of a sum (`chunks.cut`).
    """

    round: int
    positions: Int32
    weight: int
    totals: Mapping[str, Total]
    start: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.positions.nbytes + 8 + sum(total.nbytes for total in self.totals.values())


class RunningSum:
    """A worker's running partial sum; `fold` blocks of clients, then `seal` it.

    Args:
        buffers: where to take the totals from; they are used again once the sealed sum is gone.
    """

    def __init__(
        self, round_number: int, fields: Sequence[Field], device: torch.device, buffers: Buffers | None = None
    ) -> None:
        self.round, self.fields = round_number, fields
        self._device, self._buffers = device, buffers if buffers is not None else Buffers()
        self._totals: dict[str, Tensor] = {}
        self._positions: set[int] = set()
        self._weight = 0
        self._sealed = False

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        """Add the records of a block of k clients; of each client all fields or none.

        Args:
            positions: in the cohort, `[k]`.
            weights: in [0, 1], `[k]`; a client of weight zero is named as one that took part and adds nothing,
                whatever it sent.
            sent: for each field a float32 tensor `[k, size]`, which is only read.

        Returns:
            For each client None, or why it was left out.

        Raises:
            ValueError: a field is missing or has another shape, or a position is there for the second time; nothing
                was added.
        """
        k = len(positions)
        self._check(positions, sent)
        fits: npt.NDArray[np.bool_] = (
            torch.stack([field.format.in_range(sent[field.name]) for field in self.fields]).cpu().numpy()
        )
        fits |= weights == 0
        taken = np.logical_and.reduce(fits)
        complete = bool(taken.all())
        counted = weights if complete else np.where(taken, weights, 0.0)
        for field in self.fields:
            fresh = field.name not in self._totals
            field.format.add(self._total(field), sent[field.name], counted, fresh=fresh)
        self._positions.update((positions if complete else positions[taken]).tolist())
        self._weight += int(np.rint(counted * WEIGHT.scale).astype(np.int64).sum())
        reasons: list[str | None] = [None] * k
        for i in np.flatnonzero(~taken).tolist():
            field = self.fields[int(np.argmin(fits[:, i]))]
            reasons[i] = _reason(field, sent[field.name][i])
        return reasons

    def seal(self) -> PartialSum:
        """The sum so far, handed over without a copy; nothing may be folded afterwards."""
        self._sealed = True
        totals: dict[str, Total] = {}
        for field in self.fields:
            empty = field.name not in self._totals
            total = self._total(field)
            if empty:
                total.zero_()
            if self._device.type != "cpu":
                total = torch.from_numpy(self._buffers.take(field.size, field.format.dtype)).copy_(total)
            totals[field.name] = total.numpy()
        self._totals = {}
        return PartialSum(self.round, np.array(sorted(self._positions), dtype=np.int32), self._weight, totals)

    def _check(self, positions: Int32 | Int64, sent: Mapping[str, Tensor]) -> None:
        if self._sealed:
            raise ValueError("the sum is sealed")
        for field in self.fields:
            if field.name not in sent or tuple(sent[field.name].shape) != (len(positions), field.size):
                found = f"shape {list(sent[field.name].shape[1:])}" if field.name in sent else "nothing"
                raise ValueError(f"the algorithm sends {found} for its field {field.name!r} of {field.size} values")
        named = positions.tolist()
        if len(set(named)) < len(named) or not self._positions.isdisjoint(named):
            twice = [position for i, position in enumerate(named) if position in {*named[:i], *self._positions}]
            raise ValueError(f"clients at positions {twice[:5]} of the cohort are folded twice")

    def _total(self, field: Field) -> Tensor:
        total = self._totals.get(field.name)
        if total is None:
            if self._device.type == "cpu":
                total = torch.from_numpy(self._buffers.take(field.size, field.format.dtype))
            else:
                like = torch.from_numpy(np.empty(0, field.format.dtype))
                total = like.new_empty(field.size, device=self._device)
            self._totals[field.name] = total
        return total


def union(sums: Sequence[Positioned]) -> tuple[Int32, int]:
    """The clients of disjoint partial sums, as sorted positions, and the sum of their weights in units.

    Raises:
        ValueError: no sums, sums of different rounds, or a client in two of them.
    """
    if not sums:
        raise ValueError("nothing to combine")
    if len({part.round for part in sums}) != 1:
        raise ValueError(f"partial sums of different rounds: {sorted({part.round for part in sums})}")
    positions = np.sort(np.concatenate([part.positions for part in sums]))
    if np.any(positions[1:] == positions[:-1]):
        twice = positions[1:][positions[1:] == positions[:-1]]
        raise ValueError(f"clients at positions {twice[:5].tolist()} of the cohort are in two partial sums")
    return positions, sum(part.weight for part in sums)


def combine(sums: Iterable[PartialSum], buffers: Buffers | None = None) -> PartialSum:
    """The sum over the union of the clients; a single sum is returned as it is.

    Args:
        sums: whole ones, or chunks of the same columns.
        buffers: where to take the totals from.

    Raises:
        ValueError: see `union`; or chunks of different columns.
    """
    parts = list(sums)
    if len(parts) == 1:
        return parts[0]
    positions, weight = union(parts)
    if len({part.start for part in parts}) != 1:
        raise ValueError(f"chunks that begin at different columns: {sorted({part.start for part in parts})}")
    buffers = Buffers() if buffers is None else buffers
    totals = {name: buffers.take(len(one), one.dtype) for name, one in parts[0].totals.items()}
    for name, total in totals.items():
        for start in range(0, len(total), _CACHED):  # the total stays in the cache, every part is read once
            columns = slice(start, start + _CACHED)
            _add_up([part.totals[name][columns] for part in parts], total[columns])
    return PartialSum(parts[0].round, positions, weight, totals, parts[0].start)


def mean(total: PartialSum, fields: Sequence[Field]) -> dict[str, Float64]:
    """The weighted mean of every field, float64 `[size]`.

    Raises:
        ZeroDivisionError: the weights sum to zero.
    """
    if total.weight == 0:
        raise ZeroDivisionError("the weights sum to zero")  # NumPy would only warn
    weight = total.weight / WEIGHT.scale
    return {field.name: column_mean([total], field, weight, slice(None)) for field in fields}


def column_mean(sums: Sequence[PartialSum], field: Field, weight: float, columns: slice) -> Float64:
    """The weighted mean of one field over disjoint sums, or their sum where the field says so, in these columns.

    Args:
        weight: the sum of all weights, above 0.
    """
    parts = [part.totals[field.name][columns] for part in sums]
    total = parts[0] if len(parts) == 1 else _add_up(parts, np.empty(len(parts[0]), parts[0].dtype))
    found = field.format.decode(total)
    if not field.summed:
        found /= weight
    return found


def _add_up(parts: Sequence[Total], out: Total) -> Total:
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        np.add(out, part, out=out)
    return out


def _reason(field: Field, values: Tensor) -> str:
    if not bool(torch.isfinite(values).all()):
        return f"{field.name} is not finite"
    return f"{field.name} has an element beyond ±{field.format.limit:.0f}"


_CACHED = 1 << 15
"""Elements of a total that stay in the second-level cache while parts are added to them."""
