"""Sums that cannot depend on order: every addend is rounded to a 64-bit integer before it is added.

Integer addition is associative, so the order of clients, their grouping into partial sums, the number of workers and
retries cannot change a bit. An addend is `w·x` with weights that sum to at most 1 over a round's cohort, so a sum of
values below `limit` in magnitude cannot overflow, whatever the number of clients.
"""

from __future__ import annotations

from collections.abc import Iterator
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

    def add(
        self, total: Tensor, values: Tensor, weights: npt.NDArray[np.float64], magnitudes: npt.NDArray[np.float64]
    ) -> None:
        """Add `Σ weights[i] · values[i]` to a running total in place, every addend rounded by itself.

        Args:
            total: int64 `[size]`, contiguous.
            values: float32 `[k, size]`, on the same device, every one below `limit` in magnitude.
            weights: float64 `[k]`, in [0, 1]; all weights that ever meet in one total must sum to at most 1.
            magnitudes: float64 `[k]`, at least as large as any value of the row.
        """
        scaled = weights * self.scale
        factor = torch.from_numpy(scaled)[:, None].to(values.device)
        small = float(np.max(scaled * magnitudes, initial=0.0)) < _SHIFTABLE
        for part in _chunks(values):
            addends = values[:, part].to(torch.float64).mul_(factor)
            if small:  # the sum's last bits are the rounded integer: several times as fast as to convert it
                whole = addends.add_(_SHIFT).view(torch.int64).sum(0).sub_(_wrapped(len(values) * _SHIFT_BITS))
            else:
                whole = addends.round_().to(torch.int64).sum(0)
            total[part] += whole

    def encode(self, value: float) -> int:
        """One number in units, as a Python integer."""
        return round(value * self.scale)

    def decode(self, total: Int64) -> npt.NDArray[np.float64]:
        """A total back as float64."""
        return total.astype(np.float64) / self.scale


def magnitudes(values: Tensor) -> npt.NDArray[np.float64]:
    """The largest magnitude of each row of `[k, size]`, float64 `[k]`; NaN where there is one."""
    found = torch.zeros(len(values), device=values.device)
    for part in _chunks(values):
        found = torch.maximum(found, values[:, part].abs().amax(dim=1))  # aminmax takes ten times as long
    return found.cpu().numpy().astype(np.float64)


def _wrapped(value: int) -> int:
    """As int64 arithmetic would have it."""
    return (value + 2**63) % 2**64 - 2**63


def _chunks(values: Tensor) -> Iterator[slice]:
    """Columns at a time, so few that what is computed of them stays in the cache."""
    k, size = values.shape
    width = max(_CHUNK // max(k, 1), 512)
    for start in range(0, size, width):
        yield slice(start, start + width)


_CHUNK = 1 << 16
_SHIFTABLE = 2.0**51
_SHIFT = 1.5 * 2.0**52
"""Added to a float64 below 2^51 in magnitude it gives one in [2^52, 2^53), whose unit in the last place is 1."""
_SHIFT_BITS = 0x4338000000000000
"""Its bits, as an integer."""
