"""Vectors that are used again, round after round.

Memory that is touched for the first time costs more than what is then done with it: the system must find and clear
every page. A run that allocates sums and models of the same sizes in each round therefore keeps them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raysim.arrays import Array

SPARES = 8
"""Times that a vector may be passed over before it is given back to the system."""


@dataclass(slots=True, eq=False)
class _KeptBuffer:
    vector: Array
    passed_over: int = 0


class Buffers:
    """Hands out vectors of any content, and hands one out again as soon as nothing else refers to it.

    A reference to a vector, to a view of it, or to a torch tensor on it keeps it from being used again. Nothing has to
    be given back.
    """

    def __init__(self) -> None:
        self._kept: list[_KeptBuffer] = []

    def take(self, size: int, dtype: npt.DTypeLike) -> Array:
        """A vector `[size]` whose elements are whatever they are."""
        found: _KeptBuffer | None = None
        for kept in list(self._kept):
            fits = len(kept.vector) == size and kept.vector.dtype == dtype
            if not fits or _references(kept) != _ALONE:
                continue
            if found is None:
                found = kept
                continue
            kept.passed_over += 1
            if kept.passed_over > SPARES:
                self._kept.remove(kept)
        if found is None:
            found = _KeptBuffer(np.empty(size, dtype))
            self._kept.append(found)
        found.passed_over = 0
        return found.vector[:]  # a view: it, and all views of it, hold a reference to the vector that is kept


def _references(kept: _KeptBuffer) -> int:
    return sys.getrefcount(kept.vector)


_ALONE = _references(_KeptBuffer(np.empty(0)))
