"""Sums that cannot depend on order: every addend is rounded to a 64-bit integer before it is added.

Integer addition is associative, so the order of clients, their grouping into partial sums, the number of workers and
retries cannot change a bit. An addend is `w·x` with weights that sum to at most 1 over a round's cohort, so a sum of
values below `limit` in magnitude cannot overflow, whatever the number of clients. Larger values are summed beside it
(`large.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64, Int64


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """64-bit integers in units of 2^-fraction_bits.

    With 52 bits (the default), elements are below 2,048 in magnitude and one addend is off by at most 1.1e-16.
    """

    dtype: ClassVar[np.dtype[np.int64]] = np.dtype(np.int64)

    fraction_bits: int = 52

    @property
    def scale(self) -> float:
        """Units in 1.0."""
        return 2.0**self.fraction_bits

    @property
    def limit(self) -> float:
        """Elements are below this in magnitude: one bit is the sign, and rounding keeps clear of the edge."""
        return 2.0 ** (63 - self.fraction_bits) - 2.0**-10

    def in_range(self, values: Tensor) -> Tensor:
        """Which rows of `[k, size]` can be added whole: bool `[k]`, false where a value is not finite or too large."""
        if not values.shape[1]:
            return torch.ones(len(values), dtype=torch.bool, device=values.device)
        # Not `aminmax`: along a dimension it is ten times slower. All of them propagate NaN.
        return (values.amin(1) > -self.limit) & (values.amax(1) < self.limit)

    def add(self, total: Tensor, values: Tensor, weights: Float64, *, fresh: bool = False) -> None:
        """Add `Σ weights[i] · values[i]` to a running total in place, every addend rounded by itself.

        Args:
            total: int64 `[size]`, contiguous.
            values: float32 `[k, size]`, on the same device, every one below `limit` in magnitude.
            weights: float64 `[k]`, in [0, 1]; all weights that ever meet in one total must sum to at most 1.
            fresh: the total holds nothing yet; whatever its elements are, they are overwritten.
        """
        if fresh and not weights.any():
            total.zero_()
        for columns, addends, first in weighted(values, weights * self.scale):
            addends.round_()
            if len(addends) == 1 and fresh and first:
                total[columns].copy_(addends[0])
                continue
            units = _scratch(values.device).integers[: addends.numel()].view(addends.shape).copy_(addends)
            part = units[0] if len(units) == 1 else units.sum(0)
            total[columns].copy_(part) if fresh and first else total[columns].add_(part)

    def encode(self, value: float) -> int:
        """One number in units, as a Python integer."""
        return round(value * self.scale)

    def decode(self, total: Int64) -> Float64:
        """A total back as float64."""
        found = total.astype(np.float64)
        found *= 1.0 / self.scale  # a power of two: nothing is rounded
        return found


def weighted(values: Tensor, weights: Float64) -> Iterator[tuple[slice, Tensor, bool]]:
    """The addends `weights[i] · values[i]` of a block, float64, piece by piece in a scratch that stays in the cache.

    Args:
        values: float32 `[k, size]`; rows of weight 0 are left out.

    Yields:
        columns; the addends `[rows, columns]` of some of the block's rows, valid until the next piece; and whether
        these are the first rows in these columns.
    """
    size, chosen = values.shape[1], np.flatnonzero(weights)
    scratch = _scratch(values.device).floats
    width = max(1, min(size, len(scratch)))
    height = len(scratch) // width
    factors = torch.from_numpy(weights[chosen]).to(values.device)[:, None]
    index = None if len(chosen) == len(values) else torch.from_numpy(chosen).to(values.device)
    for left in range(0, size, width):
        columns = slice(left, min(left + width, size))
        block = values[:, columns]
        for top in range(0, len(chosen), height):
            rows = slice(top, min(top + height, len(chosen)))
            some = block[rows] if index is None else block[index[rows]]
            addends = scratch[: some.numel()].view(some.shape)
            yield columns, addends.copy_(some).mul_(factors[rows]), top == 0


class _Scratch(threading.local):
    """Room for one piece, of each thread by itself."""

    def __init__(self) -> None:
        self.by_device: dict[torch.device, _Room] = {}


@dataclass(frozen=True, slots=True)
class _Room:
    floats: Tensor
    integers: Tensor


def _scratch(device: torch.device) -> _Room:
    room = _SCRATCH.by_device.get(device)
    if room is None:
        # On a CPU both fit the second-level cache; on a GPU a kernel must be worth its launch.
        elements = 1 << 16 if device.type == "cpu" else 1 << 22
        room = _Room(*(torch.empty(elements, dtype=dtype, device=device) for dtype in (torch.float64, torch.int64)))
        _SCRATCH.by_device[device] = room
    return room


_SCRATCH = _Scratch()
