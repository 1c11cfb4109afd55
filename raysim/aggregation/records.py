"""What clients send, summed where it was made: one partial sum for a lease of clients.

A record has named fields, each a vector with its own format. A partial sum adds up `w·field` over the clients that it
names by their position in the round's cohort. Partial sums form a commutative monoid; `combine` refuses overlapping
ones, so that work done twice (a lease given out again) cannot be counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim.aggregation.fixed_point import FixedPoint, magnitudes

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

UPDATE = FixedPoint(52)
"""Format of model updates."""
WEIGHT = FixedPoint(52)
"""Format of the sum of weights."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record: a vector of `size` values a client."""

    name: str
    size: int
    format: FixedPoint = UPDATE


@dataclass(frozen=True, slots=True)
class PartialSum:
    """Sum over some clients of a round.

    Attributes:
        round: the round that it belongs to.
        positions: positions in the cohort of the clients in the sum, sorted, int32.
        weight: sum of their weights, in units of 2^-52.
        totals: for each field the sum of `w·field`, int64 `[size]`.
    """

    round: int
    positions: Int32
    weight: int
    totals: Mapping[str, Int64]

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.positions.nbytes + 8 + sum(total.nbytes for total in self.totals.values())


class RunningSum:
    """A worker's running partial sum; `fold` clients, then `seal` it."""

    def __init__(self, round_number: int, fields: Sequence[Field], device: torch.device) -> None:
        self.round, self.fields = round_number, fields
        self._totals = {f.name: torch.zeros(f.size, dtype=torch.int64, device=device) for f in fields}
        self._positions: list[int] = []
        self._weight = 0

    def fold(self, positions: Int32, weights: npt.NDArray[np.float64], sent: Mapping[str, Tensor]) -> list[str | None]:
        """Add the records of a block of k clients, `[k, size]` a field; of each client all fields or none.

        A client of weight zero is named as one that took part, and adds nothing.

        Returns:
            For each client None, or why it was left out.
        """
        k = len(positions)
        for field in self.fields:
            if field.name not in sent or tuple(sent[field.name].shape) != (k, field.size):
                found = f"shape {list(sent[field.name].shape[1:])}" if field.name in sent else "nothing"
                raise ValueError(f"the algorithm sends {found} for its field {field.name!r} of {field.size} values")
        largest = {field.name: magnitudes(sent[field.name]) for field in self.fields}
        fits = {f.name: (largest[f.name] < f.format.limit) | (weights == 0) for f in self.fields}
        taken = np.logical_and.reduce(list(fits.values()))
        added = np.flatnonzero(taken & (weights != 0))
        for field in self.fields:
            values = sent[field.name] if len(added) == k else sent[field.name][torch.from_numpy(added)]
            field.format.add(self._totals[field.name], values, weights[added], largest[field.name][added])
        self._positions += positions[taken].tolist()
        self._weight += int(np.rint(weights[taken] * WEIGHT.scale).astype(np.int64).sum())
        return [
            None if taken[i] else next(_reason(f, sent[f.name][i]) for f in self.fields if not fits[f.name][i])
            for i in range(k)
        ]

    def seal(self) -> PartialSum:
        """The sum so far; nothing may be folded afterwards.

        Raises:
            ValueError: a client was folded twice.
        """
        positions = np.sort(np.array(self._positions, dtype=np.int32))
        if np.any(positions[1:] == positions[:-1]):
            raise ValueError("a client was folded twice")
        totals = {name: total.cpu().numpy() for name, total in self._totals.items()}
        return PartialSum(self.round, positions, self._weight, totals)


def combine(sums: Iterable[PartialSum]) -> PartialSum:
    """The sum over the union of the clients.

    Raises:
        ValueError: no sums, sums of different rounds, or a client in two of them.
    """
    parts = list(sums)
    if not parts:
        raise ValueError("nothing to combine")
    if len(parts) == 1:
        return parts[0]
    if len({part.round for part in parts}) != 1:
        raise ValueError(f"partial sums of different rounds: {sorted({part.round for part in parts})}")
    positions = np.sort(np.concatenate([part.positions for part in parts]))
    if np.any(positions[1:] == positions[:-1]):
        twice = positions[1:][positions[1:] == positions[:-1]]
        raise ValueError(f"clients at positions {twice[:5].tolist()} of the cohort are in two partial sums")
    totals = {name: parts[0].totals[name] + parts[1].totals[name] for name in parts[0].totals}
    for part in parts[2:]:
        for name, total in totals.items():
            np.add(total, part.totals[name], out=total)
    return PartialSum(parts[0].round, positions, sum(part.weight for part in parts), totals)


def mean(total: PartialSum, fields: Sequence[Field]) -> dict[str, npt.NDArray[np.float64]]:
    """The weighted mean of every field, float64 `[size]`.

    Raises:
        ZeroDivisionError: the weights sum to zero.
    """
    if total.weight == 0:
        raise ZeroDivisionError("the weights sum to zero")  # NumPy would only warn
    weight = total.weight / WEIGHT.scale
    return {field.name: field.format.decode(total.totals[field.name]) / weight for field in fields}


def _reason(field: Field, values: Tensor) -> str:
    if not bool(torch.isfinite(values).all()):
        return f"{field.name} is not finite"
    return f"{field.name} has an element beyond ±{field.format.limit:.0f}"
