"""Targets transformed for learning: the logarithm, standardised."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raysim.config.transforms import TargetConfig
from raysim.data.dataset import Pool
from raysim.data.scaling import TargetScaling
from raysim.errors import DataError


@dataclass(frozen=True, slots=True)
class ScaledTarget:
    """Replace each target by what the model is to predict; features stay as they are."""

    log1p: bool
    centre: tuple[float, ...]
    divisor: tuple[float, ...]
    """Never zero: a target that is constant in training is divided by 1."""

    @property
    def scaling(self) -> TargetScaling:
        """The same, for the way back."""
        return TargetScaling(self.log1p, self.centre, self.divisor)

    def apply(self, pool: Pool) -> Pool:
        """The same samples with other targets.

        Raises:
            DataError: a logarithm is taken of a target of -1 or less.
        """
        if self.log1p:
            _check_above(pool)
        return replace(pool, y=self.scaling.scaled(pool.targets))


def fit_target(config: TargetConfig, train: Pool) -> ScaledTarget:
    """The mean and the standard deviation (divisor n) of each number of the training targets.

    Raises:
        DataError: targets are classes, or a logarithm is taken of one of -1 or less.
    """
    if train.y.dtype.kind != "f":
        raise DataError(
            f"{train.origin}: target transforms numbers, the targets are classes; remove it, or set task: regression"
        )
    if config.log1p:
        _check_above(train)
    y = train.targets.astype(np.float64)
    if not np.isfinite(y).all():
        raise DataError(f"{train.origin}: target: a target is not finite; remove the sample")
    y = np.log1p(y) if config.log1p else y
    if not config.standardise:
        return ScaledTarget(config.log1p, (0.0,), (1.0,))
    centre, spread = y.mean(axis=0).ravel(), y.std(axis=0).ravel()
    divisor = np.where(spread > 0, spread, 1.0)
    return ScaledTarget(config.log1p, tuple(centre.tolist()), tuple(divisor.tolist()))


def _check_above(pool: Pool) -> None:
    low = np.argwhere(pool.targets <= -1)
    if len(low):
        sample = int(low[0][0])
        where = sample if pool.row is None else int(pool.row[sample])
        value = pool.targets[tuple(low[0])]
        raise DataError(
            f"{pool.origin}: target: log1p is of numbers above -1, and sample {where} has the target {value:g}; "
            "set log1p: false"
        )
