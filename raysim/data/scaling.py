"""Targets that models see transformed, and the way back to the units of the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from raysim.arrays import Array


@dataclass(frozen=True, slots=True)
class TargetScaling:
    """A model predicts (f(y) - centre) / divisor, where f(y) is log(1 + y) or y.

    Attributes:
        log1p: whether f is the logarithm.
        centre, divisor: one for each number of a sample's target; a single one is for all.
    """

    log1p: bool
    centre: tuple[float, ...]
    divisor: tuple[float, ...]

    def scaled(self, y: Array) -> Array:
        """Targets `[n, *target_shape]` as models see them, float32."""
        values = np.asarray(y, np.float64)
        values = np.log1p(values) if self.log1p else values
        return ((values - self._as(self.centre, values)) / self._as(self.divisor, values)).astype(np.float32)

    def in_units(self, predicted: Array) -> Array:
        """What a model predicts `[n, *target_shape]`, in the units of the data, float64.

        Example:
            >>> TargetScaling(log1p=False, centre=(20.0,), divisor=(5.0,)).in_units(np.array([-1.0, 0.0])).tolist()
            [15.0, 20.0]
        """
        values = np.asarray(predicted, np.float64)
        values = values * self._as(self.divisor, values) + self._as(self.centre, values)
        return np.expm1(values) if self.log1p else values

    def _as(self, numbers: tuple[float, ...], values: Array) -> Array:
        found = np.array(numbers)
        return found[0] if len(found) == 1 else found.reshape(values.shape[1:])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TargetScaling:
        """What `dataclasses.asdict` gave, perhaps through JSON; a TypeError or KeyError if it is something else."""
        return cls(bool(values["log1p"]), tuple(values["centre"]), tuple(values["divisor"]))
