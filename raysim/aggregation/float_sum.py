"""Sums in float32: half the bytes of fixed point, and a result that depends on who is added to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation.fixed_point import weighted
from raysim.arrays import Float32, Float64


@dataclass(frozen=True, slots=True)
class FloatSum:
    """Float32 totals, with the interface of `FixedPoint`. Addends of a block meet in float64."""

    dtype: ClassVar[np.dtype[np.float32]] = np.dtype(np.float32)

    @property
    def limit(self) -> float:
        """Elements of any magnitude can be added."""
        return float("inf")

    def in_range(self, values: Tensor) -> Tensor:
        """Which rows of `[k, size]` are finite: bool `[k]`."""
        if not values.shape[1]:
            return torch.ones(len(values), dtype=torch.bool, device=values.device)
        return (values.amin(1) > -self.limit) & (values.amax(1) < self.limit)

    def add(self, total: Tensor, values: Tensor, weights: Float64, *, fresh: bool = False) -> None:
        """Add `Σ weights[i] · values[i]` to a running total, float32 `[size]`, in place; see `FixedPoint.add`."""
        if fresh and not weights.any():
            total.zero_()
        for columns, addends, first in weighted(values, weights):
            part = addends[0] if len(addends) == 1 else addends.sum(0)
            total[columns].copy_(part) if fresh and first else total[columns].add_(part)

    def decode(self, total: Float32) -> Float64:
        """A total as float64."""
        return total.astype(np.float64)
