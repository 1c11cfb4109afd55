"""Power-of-choice, π_pow-d (Cho, Wang & Joshi 2022, section 4): of d candidates the m with the highest loss.

Candidates are drawn without replacement in proportion to their samples. The loss of each is the mean of the broadcast
model over all its training samples; equal losses go to the lower id, a loss that is NaN comes last.
"""

from __future__ import annotations

import numpy as np

from raysim import keyed
from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.config.server import PowerOfChoiceConfig
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.selection.base import Measure, Selection, State, losses_of
from raysim.selection.sampling import without_replacement
from raysim.training import LocalWork


class PowerOfChoice(Selection):
    """The clients of the highest losses among candidates."""

    adaptive = True

    def __init__(self, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        super().__init__(experiment, federation, work)
        assert isinstance(experiment.selection, PowerOfChoiceConfig)
        self._eligible = self.with_samples()
        wanted = experiment.selection.candidates
        found = len(self._eligible)
        self.candidates = min(2 * self.size, found) if wanted is None else wanted
        if self.candidates < self.size:
            raise ConfigError(
                f"selection.candidates: {self.candidates} candidates for a cohort of {self.size}; raise it to that"
            )
        if self.candidates > found:
            raise ConfigError(
                f"selection.candidates: {self.candidates} candidates, but only {found} clients have training samples; "
                "lower it"
            )

    def drawn(self, round_number: int) -> Int64:
        """The round's candidates, ascending."""
        weights = self.federation.sizes("train", self._eligible).astype(np.float64)
        seed, purpose = self.experiment.seed, keyed.Purpose.CANDIDATES
        return without_replacement(seed, purpose, round_number, self._eligible, weights, self.candidates)

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        candidates = self.drawn(round_number)
        if len(candidates) == self.size:
            return candidates
        losses = losses_of(measure(self.train_ranges(candidates)), candidates)[:, 0]
        order = np.argsort(-np.where(np.isnan(losses), -np.inf, losses), kind="stable")
        return np.sort(candidates[order[: self.size]])
