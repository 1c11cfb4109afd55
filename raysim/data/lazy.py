"""Arrays that are larger than the memory: their rows are made when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.room import check_room

_VALUES = 1 << 18
"""Values that are made at a time: making them takes several times their memory."""


@dataclass(frozen=True, slots=True)
class LazyArray:
    """`[n, *row_shape]` values made by a function of their rows' numbers; memory holds the numbers alone."""

    make: Callable[[Int64], Array]
    """Row numbers `[m]` to values `[m, *row_shape]`, the same whenever it is asked."""
    rows: Int64
    """`[n]` the numbers of the rows."""
    row_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    origin: str
    """File or source that the values come from, for error messages."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (len(self.rows), *self.row_shape)

    @property
    def ndim(self) -> int:
        """Dimensions of the whole array."""
        return 1 + len(self.row_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Int64) -> LazyArray:
        """These rows, in this order; none of them is made."""
        return replace(self, rows=self.rows[rows])

    def gather(self) -> Array:
        """All rows.

        Raises:
            DataError: they do not fit this machine's memory.
        """
        check_room(
            self.nbytes,
            self.origin,
            f"a set of {len(self):,} samples",
            "lower data.test and data.validation, or use more clients",
        )
        found = np.empty(self.shape, self.dtype)
        step = max(1, _VALUES // max(1, math.prod(self.row_shape)))
        for start in range(0, len(self), step):
            found[start : start + step] = self.make(self.rows[start : start + step])
        return found


def gathered(values: Array | LazyArray) -> Array:
    """The values in memory, wherever they are."""
    return values.gather() if isinstance(values, LazyArray) else values
