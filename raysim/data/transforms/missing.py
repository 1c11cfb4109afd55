"""Holes: rows dropped, or values filled in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64
from raysim.config.transforms import MissingConfig
from raysim.data.dataset import Columns, Pool, holes
from raysim.data.transforms.features import layout, measure, refuse_tokens, rewrite


@dataclass(frozen=True, slots=True)
class Drop:
    """Leave out samples with a hole in any feature, in the test set too."""

    def apply(self, pool: Pool) -> Pool:
        """The samples without holes."""
        if isinstance(pool.x, Columns):
            missing = np.column_stack([holes(values) for values in pool.x.values])
        else:
            missing = holes(pool.features).reshape(len(pool), -1)
        return pool.take(np.flatnonzero(~missing.any(axis=1))) if missing.any() else pool


@dataclass(frozen=True, slots=True)
class Fill:
    """Put the training part's mean or median, or zero, where a number is missing.

    A category that is missing is left to `one_hot`, which gives it zeros.
    """

    columns: tuple[str, ...] | None
    values: tuple[float, ...]
    """What to put, a feature each."""

    def apply(self, pool: Pool) -> Pool:
        """The same samples without holes in numeric features."""
        values = np.array(self.values)

        def fill(x: Float64, features: slice) -> Float64:
            return np.where(np.isfinite(x), x, values[features])

        if not isinstance(pool.x, Columns) and not holes(pool.features).any():
            return pool
        return rewrite(pool, self.columns, len(self.values), fill)


def fit_missing(config: MissingConfig, train: Pool) -> Drop | Fill:
    """What `missing` does, with the training part's statistics.

    Raises:
        DataError: x is tokens; a feature to be filled with a mean or median has no values.
    """
    refuse_tokens(train, "missing")
    if config.action == "drop":
        return Drop()
    if config.action == "zero":
        columns, count = layout(train)
        return Fill(columns, (0.0,) * count)
    columns, values = measure(train, _STATISTICS[config.action])
    return Fill(columns, tuple(values.tolist()))


_STATISTICS: dict[str, Callable[[Float64], Float64]] = {
    "mean": lambda x: np.asarray(np.nanmean(x, axis=0)),
    "median": lambda x: np.asarray(np.nanmedian(x, axis=0)),
}
