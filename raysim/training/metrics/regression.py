"""Metrics of regression."""

from __future__ import annotations

import math

from torch import Tensor

from raysim.arrays import Float64
from raysim.training.losses import one_a_target
from raysim.training.metrics.metric import MeanMetric


class MeanAbsoluteError(MeanMetric):
    """Mean absolute error."""

    name = "mae"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return (one_a_target(output, target).double() - target.double()).abs()


class RootMeanSquaredError(MeanMetric):
    """Root of the mean squared error."""

    name = "rmse"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return (one_a_target(output, target).double() - target.double()).square()

    def value(self, sums: Float64) -> float:
        return math.sqrt(super().value(sums))
