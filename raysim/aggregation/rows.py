"""The road of rows: what clients send is kept as it is, a row each, for rules that look at clients one by one.

A worker's rows travel where its partial sum would, and are joined in the order of their positions, so that what is
computed from them depends on the cohort alone. A rule on rows ends in a `PartialSum`, which the server's step takes as
it takes any: learned weights fold the rows again with other weights (`weighed`); a rule that makes a vector of its own,
such as a median, would round it into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.records import WEIGHT, Field, PartialSum, union
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.arrays import Float32, Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class ClientRows:
    """The records of some clients of a round.

    Attributes:
        round: the round that they belong to.
        positions: in the cohort, sorted, int32 `[k]`.
        weights: of each, `[k]`, not normalised.
        rows: for each field float32 `[k, size]`.
    """

    round: int
    positions: Int32
    weights: Float64
    rows: Mapping[str, Float32]

    @property
    def weight(self) -> int:
        """Sum of the weights in units, as in a partial sum."""
        return int(np.rint(self.weights * WEIGHT.scale).astype(np.int64).sum())

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.positions.nbytes + self.weights.nbytes + sum(rows.nbytes for rows in self.rows.values())

    def joined(self, parts: Sequence[ClientRows], buffers: Buffers) -> ClientRows:
        """The rows of all parts, by position."""
        union(parts)
        positions = np.concatenate([part.positions for part in parts])
        order = np.argsort(positions, kind="stable")
        rows = {name: np.concatenate([part.rows[name] for part in parts])[order] for name in self.rows}
        weights = np.concatenate([part.weights for part in parts])[order]
        return ClientRows(self.round, positions[order], weights, rows)


class KeptRows:
    """A worker's rows so far, with the interface of `RunningSum`: `fold` blocks of clients, then `seal` them."""

    def __init__(self, round_number: int, fields: Sequence[Field], named: Named | None = None) -> None:
        self.round, self.fields, self._named = round_number, fields, named
        self._positions: list[int] = []
        self._weights: list[float] = []
        self._rows: dict[str, list[Float32]] = {field.name: [] for field in fields}

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        """Keep the records of a block of k clients; for each None, or why it was left out (see `RunningSum.fold`)."""
        tried = RunningSum(self.round, self.fields, torch.device("cpu"), named=self._named)
        on_cpu = {field.name: sent[field.name].cpu() for field in self.fields if field.name in sent}
        # Checked as a sum would check them, with some weight: of weight zero every row passes.
        reasons = tried.fold(positions, np.full(len(positions), 1 / max(len(positions), 1)), on_cpu)
        taken = np.array([reason is None for reason in reasons])
        self._positions += positions[taken].tolist()
        self._weights += weights[taken].tolist()
        for field in self.fields:
            self._rows[field.name].append(on_cpu[field.name].numpy()[taken].copy())
        return reasons

    def seal(self) -> ClientRows:
        """The rows so far."""
        order = np.argsort(self._positions, kind="stable")
        rows = {
            field.name: np.concatenate([np.empty((0, field.size), np.float32), *self._rows[field.name]])[order]
            for field in self.fields
        }
        positions = np.array(self._positions, dtype=np.int32)[order]
        return ClientRows(self.round, positions, np.array(self._weights)[order], rows)


def weighed(rows: ClientRows, weights: Float64, fields: Sequence[Field]) -> PartialSum:
    """The partial sum of the rows with these weights, `[k]`, summing to at most 1; the bits of one made by workers."""
    total = RunningSum(rows.round, fields, torch.device("cpu"))
    reasons = total.fold(rows.positions, weights, {name: torch.from_numpy(r) for name, r in rows.rows.items()})
    assert not any(reasons), "rows were checked when they were kept"
    return total.seal()
