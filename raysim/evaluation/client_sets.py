"""The samples of their own that clients are evaluated on: their holdouts, and their part of the test set."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.data import Federation
from raysim.tracking import ClientSet


def client_sets(experiment: Experiment, federation: Federation) -> tuple[ClientSet, ...]:
    """The sets that some client has: its `holdout`, by `data.holdout`; its `test` samples, where the source says whose
    they are and `evaluation.sets` has the test set. Trials of a study, which do not look at it, look at neither."""
    wanted: tuple[tuple[ClientSet, bool], ...] = (
        ("holdout", experiment.data.holdout > 0),
        ("test", "test" in experiment.evaluation.sets),
    )
    return tuple(part for part, wanted_here in wanted if wanted_here and federation.sizes(part).any())


def own_sizes(federation: Federation, sets: tuple[ClientSet, ...]) -> Int64:
    """Samples of these sets together that each client has, `[population]`."""
    sizes = [federation.sizes(part) for part in sets]
    total: Int64 = np.sum(sizes, axis=0) if sizes else np.zeros(federation.population, dtype=np.int64)
    return total
