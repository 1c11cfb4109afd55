"""Outliers, moved to quantiles of the training part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64
from raysim.config.transforms import ClipConfig
from raysim.data.dataset import Pool
from raysim.data.transforms.features import is_numeric, measure, refuse_tokens, rewrite
from raysim.data.transforms.tables import categorical, column_of
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class ClipOutliers:
    """Raise values below a feature's low bound, and lower those above its high one; holes stay holes."""

    columns: tuple[str, ...] | None
    low: tuple[float, ...]
    high: tuple[float, ...]

    def apply(self, pool: Pool) -> Pool:
        """The same samples, clipped."""
        low, high = np.array(self.low), np.array(self.high)

        def clipped(x: Float64, features: slice) -> Float64:
            return np.where(np.isfinite(x), np.clip(x, low[features], high[features]), x)

        return rewrite(pool, self.columns, len(self.low), clipped)


def fit_clip(config: ClipConfig, train: Pool) -> ClipOutliers:
    """The quantiles of the training part, by linear interpolation.

    Raises:
        DataError: x is tokens, a column does not exist or is not numeric, or a feature has no values.
    """
    refuse_tokens(train, "clip")
    names, low = measure(train, lambda x: np.asarray(np.nanquantile(x, config.low, axis=0)))
    _, high = measure(train, lambda x: np.asarray(np.nanquantile(x, config.high, axis=0)))
    if config.columns is None:
        return ClipOutliers(names, tuple(low.tolist()), tuple(high.tolist()))
    chosen = categorical(train, "clip", config.columns)
    for name in chosen:
        if not is_numeric(column_of(train, name, "clip", filled=False)):
            raise DataError(f"{train.origin}: clip.columns: column {name!r} is not numeric; remove it")
    place = [(names or ()).index(name) for name in chosen]
    return ClipOutliers(chosen, tuple(low[place].tolist()), tuple(high[place].tolist()))
