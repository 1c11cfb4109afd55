"""A worker's running partial sum: blocks of clients in, one `PartialSum` out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.fixed_point import FixedPoint
from raysim.aggregation.large import MOST, LargeSum, add_large
from raysim.aggregation.records import WEIGHT, Field, PartialSum
from raysim.arrays import Array, Bools, Float64, Int32, Int64

Named = Callable[[Field, int], str]
"""What people call a column of a field."""


class RunningSum:
    """A worker's running partial sum; `fold` blocks of clients, then `seal` it.

    Args:
        buffers: where to take the totals from; they are used again once the sealed sum is gone.
        named: names the parameter at fault to the reasons for leaving a client out.
    """

    def __init__(
        self,
        round_number: int,
        fields: Sequence[Field],
        device: torch.device,
        buffers: Buffers | None = None,
        named: Named | None = None,
    ) -> None:
        self.round, self.fields, self._named = round_number, fields, named
        self._device, self._buffers = device, buffers if buffers is not None else Buffers()
        self._totals: dict[str, Tensor] = {}
        self._large: dict[str, LargeSum] = {}
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
        self._check(positions, sent)
        in_range: Bools = torch.stack([field.format.in_range(sent[field.name]) for field in self.fields]).cpu().numpy()
        in_range |= weights == 0
        reasons: list[str | None] = [None] * len(positions)
        rows = positions
        counted, whole = weights, bool(in_range.all())
        if not whole:
            reasons = [self._reason(in_range[:, i], i, sent) for i in range(len(positions))]
            taken = np.array([reason is None for reason in reasons])
            counted, positions = np.where(taken, weights, 0.0), positions[taken]
        for field, fits in zip(self.fields, in_range, strict=True):
            fresh = field.name not in self._totals
            total, values = self._total(field), sent[field.name]
            within = counted if whole or fits.all() else np.where(fits, counted, 0.0)
            self._add(field, total, values, within, rows, fresh=fresh)
            if within is not counted and isinstance(field.format, FixedPoint):
                for i in np.flatnonzero(counted * ~fits).tolist():
                    self._fold_large(field, field.format, total, values[i], counted[i : i + 1])
        self._positions.update(positions.tolist())
        self._weight += int(np.rint(counted * WEIGHT.scale).astype(np.int64).sum())
        return reasons

    def seal(self) -> PartialSum:
        """The sum so far, handed over without a copy; nothing may be folded afterwards."""
        self._sealed = True
        totals: dict[str, Array] = {}
        for field in self.fields:
            empty = field.name not in self._totals
            total = self._total(field)
            if empty:
                total.zero_()
            if self._device.type != "cpu":
                total = torch.from_numpy(self._buffers.take(field.size, field.format.dtype)).copy_(total)
            totals[field.name] = total.numpy()
        self._totals = {}
        positions = np.array(sorted(self._positions), dtype=np.int32)
        return PartialSum(self.round, positions, self._weight, totals, self._large)

    def _add(
        self, field: Field, total: Tensor, values: Tensor, weights: Float64, positions: Int32 | Int64, *, fresh: bool
    ) -> None:
        """Add a block of k clients to a total in place; see `FixedPoint.add`."""
        field.format.add(total, values, weights, fresh=fresh)

    def _fold_large(self, field: Field, form: FixedPoint, total: Tensor, values: Tensor, weight: Float64) -> None:
        """Add the values `[size]` of one client that has some out of range, each to the sum that it belongs to."""
        beyond = values.abs() >= form.limit
        columns = beyond.nonzero().view(-1)
        form.add(total, values.masked_fill(beyond, 0.0)[None], weight)
        one = LargeSum.of(columns.cpu().numpy(), values[columns].cpu().numpy(), float(weight[0]), form)
        known = self._large.get(field.name)
        self._large[field.name] = one if known is None else add_large([known, one])

    def _reason(self, in_range: Bools, i: int, sent: Mapping[str, Tensor]) -> str | None:
        """Why the client at this place of the block is left out, if it is."""
        for field in (field for field, fits in zip(self.fields, in_range, strict=True) if not fits):
            values = sent[field.name][i]
            if len(broken := (~values.isfinite()).nonzero()):
                where = "" if self._named is None else self._named(field, int(broken[0]))
                return f"{field.name} is not finite{where and f' in {where}'}"
            if (why := self._beyond(field, int((values.abs() >= field.format.limit).sum()))) is not None:
                return why
        return None

    def _beyond(self, field: Field, count: int) -> str | None:
        """Why a client with this number of values out of range is left out; None if it counts."""
        if count <= MOST:
            return None
        return f"{field.name} has {count:,} values beyond ±{field.format.limit:.0f}: the client has diverged"

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
