"""Linear scaling of each feature: `min_max` and `standardise`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64
from raysim.config.transforms import MinMaxConfig, StandardiseConfig
from raysim.data.dataset import Pool
from raysim.data.transforms.features import measure, refuse_tokens, rewrite


@dataclass(frozen=True, slots=True)
class Scale:
    """x becomes (x - centre) / divisor * span + low, in float64; features of an array end as float32."""

    columns: tuple[str, ...] | None
    centre: tuple[float, ...]
    divisor: tuple[float, ...]
    """Never zero: a feature that is constant in training is divided by 1."""
    span: float = 1.0
    low: float = 0.0

    def apply(self, pool: Pool) -> Pool:
        """The same samples, scaled."""
        centre, divisor = np.array(self.centre), np.array(self.divisor)

        def scale(x: Float64, features: slice) -> Float64:
            scaled: Float64 = (x - centre[features]) / divisor[features] * self.span + self.low
            return scaled

        return rewrite(pool, self.columns, len(self.centre), scale)


def fit_min_max(config: MinMaxConfig, train: Pool) -> Scale:
    """The training part's minimum goes to `low`, its maximum to `high`; a constant feature goes to `low`.

    Raises:
        DataError: x is tokens, or a feature has no values.
    """
    refuse_tokens(train, "min_max")
    columns, least = measure(train, lambda x: np.nanmin(x, axis=0))
    _, most = measure(train, lambda x: np.nanmax(x, axis=0))
    divisor = np.where(most > least, most - least, 1.0)
    return Scale(columns, tuple(least.tolist()), tuple(divisor.tolist()), config.high - config.low, config.low)


def fit_standardise(config: StandardiseConfig, train: Pool) -> Scale:
    """Subtract the mean and divide by the population's standard deviation (divisor n); a constant feature goes to 0.

    Raises:
        DataError: x is tokens, or a feature has no values.
    """
    refuse_tokens(train, "standardise")
    columns, mean = measure(train, lambda x: np.nanmean(x, axis=0))
    _, deviation = measure(train, _deviation)
    return Scale(columns, tuple(mean.tolist()), tuple(deviation.tolist()))


def _deviation(x: Float64) -> Float64:
    # The rounded deviation of a constant 0.1 is 1e-17, not 0: ask the range whether a feature is constant.
    constant = np.nanmax(x, axis=0) == np.nanmin(x, axis=0)
    deviation: Float64 = np.where(constant, 1.0, np.nanstd(x, axis=0))
    return deviation
