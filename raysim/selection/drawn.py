"""Selections that look at no result: uniform, Poisson, round robin, clustered."""

from __future__ import annotations

from raysim.arrays import Int64
from raysim.selection.base import Measure, Selection, State
from raysim.selection.cohort import draw_clients


class Drawn(Selection):
    """Cohorts that are functions of (seed, round) alone."""

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        return draw_clients(self.experiment, self.federation, self.work.drawn_in(round_number))
