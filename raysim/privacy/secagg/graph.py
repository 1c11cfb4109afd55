"""Who masks with whom: everybody with everybody, or a random regular graph."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from raysim import keyed
from raysim.arrays import Int64

USUAL = 20
"""Neighbours of a client in the regular graph, unless the configuration says otherwise."""


class Graph:
    """Neighbours of the clients of a round, by position in the cohort.

    Attributes:
        count: clients.
        degree: neighbours of each.
    """

    def __init__(self, seed: int, round_number: int, count: int, degree: int | None) -> None:
        """The graph of a round.

        Args:
            degree: None, or more than there are others: all others. Less: each has the `degree`/2 next ones on both
                sides of a circle in a keyed random order, a Harary graph (Bell et al. 2020, section 3.2).
        """
        others = max(count - 1, 0)
        self.count = count
        self.degree = others if degree is None or degree >= others else degree
        self._order: Int64 | None = None
        if self.degree < others:
            self._order = np.argsort(keyed.bits(seed, keyed.Purpose.NEIGHBOURS, round_number, np.arange(count)))
            self._place = np.argsort(self._order)

    def of(self, position: int) -> Int64:
        """The neighbours of a client, ascending."""
        if self._order is None:
            return np.delete(np.arange(self.count), position)
        half = np.arange(1, self.degree // 2 + 1)
        around = self._place[position] + np.concatenate([-half, half])
        return np.sort(self._order[around % self.count])


@lru_cache(maxsize=8)
def graph(seed: int, round_number: int, count: int, degree: int | None) -> Graph:
    """The graph of a round, made once."""
    return Graph(seed, round_number, count, degree)
