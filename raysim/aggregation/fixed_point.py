"""Sums that cannot depend on order: every addend is rounded to a 64-bit integer before it is added.

Integer addition is associative, so the order of clients, their grouping into partial sums, the number of workers and
retries cannot change a bit. An addend is `w·x` with weights that sum to at most 1 over a round's cohort, so a sum of
values below `limit` in magnitude cannot overflow, whatever the number of clients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FixedPoint:
    """Integers in units of 2^-fraction_bits.

    With 52 bits (the default), elements are below 2,048 in magnitude and one addend is off by at most 1.1e-16.
    """

    fraction_bits: int = 52

    @property
    def scale(self) -> float:
        """Units in 1.0."""
        return 2.0**self.fraction_bits

    @property
    def limit(self) -> float:
        """Elements must be below this in magnitude: one bit is the sign, and rounding keeps clear of the edge."""
        return 2.0 ** (63 - self.fraction_bits) - 2.0**-10

    def in_range(self, values: Tensor) -> Tensor:
        """Which rows of `[k, size]` can be added: bool `[k]`, false where a value is not finite or out of range."""
        low, high = torch.aminmax(values, dim=1)  # propagates NaN
        return (low > -self.limit) & (high < self.limit)

    def add(self, total: Tensor, values: Tensor, weights: npt.NDArray[np.float64]) -> None:
        """Add `Σ weights[i] · values[i]` to a running total in place, every addend rounded by itself.

        Args:
            total: int64 `[size]`, contiguous.
            values: float32 `[k, size]`, on the same device; rows of weight 0 are not looked at.
            weights: float64 `[k]`, in [0, 1]; all weights that ever meet in one total must sum to at most 1.
        """
        rows = torch.from_numpy(np.flatnonzero(weights)).to(values.device)
        if not len(rows):
            return
        if len(rows) < len(values):
            values = values[rows]
        scaled = torch.from_numpy(weights[weights != 0] * self.scale).to(values.device)[:, None]
        for start in range(0, values.shape[1], _CHUNK):  # stay in the cache: the float64 copy is twice the values
            part = slice(start, start + _CHUNK)
            total[part] += values[:, part].to(torch.float64).mul_(scaled).round_().to(torch.int64).sum(0)

    def encode(self, value: float) -> int:
        """One number in units, as a Python integer."""
        return round(value * self.scale)

    def decode(self, total: Int64) -> npt.NDArray[np.float64]:
        """A total back as float64."""
        return total.astype(np.float64) / self.scale


_CHUNK = 1 << 16
