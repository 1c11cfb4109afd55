"""Values beyond the range of a fixed-point total, summed exactly beside it.

Running variances of raw features, or weights that reach for targets of 200,000, are sound numbers that a 64-bit total
of 52 fraction bits has no room for. They are few, so their sum is kept by column: in the same units, as an integer of
several digits, each with room for the carries of every client that a cohort can have. Which of the two sums takes an
element depends on its own magnitude alone, so the result does not depend on order or grouping either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysim.aggregation.fixed_point import FixedPoint
from raysim.arrays import Float32, Float64, Int64

DIGITS = 5
"""Of a sum: float32 reaches to 2^128, which is 2^180 units of 2^-52."""
DIGIT_BITS = 32
"""Bits of a digit. 2^31 clients, as many as have a position in a cohort, add up to less than 2^63 in each; the last
digit takes what is left of an addend, below 2^53 times its weight."""
MOST = 1 << 20
"""Large values that one client may have in a field: they take six times the memory of others, and a model of which
more than a million weights move by thousands has diverged."""


@dataclass(frozen=True, slots=True)
class LargeSum:
    """Σ w·x over addends that are out of the total's range.

    Attributes:
        columns: those that have such an addend, sorted, int64 `[c]`.
        digits: int64 `[5, c]`; the sum is Σ_j `digits[j]`·2^(32 j) units.
    """

    columns: Int64
    digits: Int64

    @classmethod
    def of(cls, columns: Int64, values: Float32, weight: float, form: FixedPoint) -> LargeSum:
        """One client's addends, each rounded to a unit, and to float64, by itself.

        Args:
            columns: sorted, `[c]`.
            values: finite, `[c]`.
            weight: in [0, 1].
            form: of the total that they stay out of; it gives the unit.
        """
        units = np.rint(values.astype(np.float64) * (weight * form.scale))
        digits = np.empty((DIGITS, len(columns)), dtype=np.int64)
        for j in reversed(range(DIGITS)):
            place = 2.0 ** (DIGIT_BITS * j)
            digit = np.trunc(units / place)  # a power of two: nothing is rounded here, nor in the next line
            units -= digit * place
            digits[j] = digit
        return cls(columns, digits)

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.columns.nbytes + self.digits.nbytes

    def cut(self, start: int, stop: int) -> LargeSum:
        """The columns `[start, stop)`, counted from `start` on."""
        first, end = np.searchsorted(self.columns, (start, stop)).tolist()
        return LargeSum(self.columns[first:end] - start, self.digits[:, first:end])

    def decode(self, form: FixedPoint) -> Float64:
        """The sums as float64 `[c]`, right to the last bits of the result."""
        digits, half = self.digits.copy(), 1 << (DIGIT_BITS - 1)
        for j in range(DIGITS - 1):  # every digit but the last within ±half, so that none cancels another
            carry = (digits[j] + half) >> DIGIT_BITS
            digits[j] -= carry << DIGIT_BITS
            digits[j + 1] += carry
        found = np.zeros(len(self.columns))
        for j in reversed(range(DIGITS)):
            found += digits[j] * 2.0 ** (DIGIT_BITS * j - form.fraction_bits)
        return found


def add_large(sums: Sequence[LargeSum]) -> LargeSum:
    """The sum over all of them, at least one, by column."""
    if len(sums) == 1:
        return sums[0]
    columns = np.unique(np.concatenate([one.columns for one in sums]))
    digits = np.zeros((DIGITS, len(columns)), dtype=np.int64)
    for one in sums:
        digits[:, np.searchsorted(columns, one.columns)] += one.digits
    return LargeSum(columns, digits)
