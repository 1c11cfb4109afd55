"""How fast machines turn out to be: learnt from finished clients, so that each gets work in proportion."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from raysim.arrays import Float64

_FADE = 0.8
"""What an older round counts for, beside the one after it."""

_PRIOR = 0.05
"""Seconds of work at the expected speed that every place is taken to have done: a first few clients prove little."""


class Speeds:
    """Seconds that places take for a second of estimated work. A place is whatever workers have in common: a node.

    It changes who trains whom, never a result.
    """

    def __init__(self) -> None:
        self._sums: dict[Hashable, tuple[float, float]] = {}

    def observe(self, places: Sequence[Hashable], expected: Float64, seconds: Float64) -> None:
        """Learn from a round's clients: where each was trained, what was expected, and what it took; `[n]` each."""
        names = {place: i for i, place in enumerate(dict.fromkeys(places))}
        index = np.array([names[place] for place in places], dtype=np.int64)
        estimated = np.bincount(index, weights=expected, minlength=len(names))
        took = np.bincount(index, weights=np.where(expected > 0, seconds, 0.0), minlength=len(names))
        for name, more_expected, more_taken in zip(names, estimated.tolist(), took.tolist(), strict=True):
            before = self._sums.get(name, (_PRIOR, _PRIOR))
            self._sums[name] = (_FADE * before[0] + more_expected, _FADE * before[1] + more_taken)

    def slowness(self, places: Sequence[Hashable]) -> Float64:
        """For each place, `[n]`; 1 where nothing is known, as on average."""
        found = (self._sums.get(place, (1.0, 1.0)) for place in places)
        return np.array([taken / expected if expected > 0 else 1.0 for expected, taken in found])
