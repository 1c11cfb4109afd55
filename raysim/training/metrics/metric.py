"""What a metric is: sums over samples that merge exactly, and a value of the sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.training.losses import element_weight
from raysim.user_code import user_code


class Metric(ABC):
    """A quantity measured on samples that may lie on many workers.

    Contract: every sample contributes a row of `width` numbers. Rows are added over any set of samples (the test set,
    one client's holdout), in any order and grouping, and `value` turns the sum into the metric; so splitting the
    samples over shards cannot change it. A subclass sets `name`, `higher_is_better` and `width`, and its constructor
    takes the `DataInfo` alone. Your own goes into `evaluation.metrics` as `package.module:Class`.

    Attributes:
        name: what reports call it.
        higher_is_better: the direction of improvement.
        width: numbers of a row.
        info: what a sample looks like.
    """

    name: str
    higher_is_better: bool
    width: int

    def __init__(self, info: DataInfo) -> None:
        self.info = info

    @abstractmethod
    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        """One row a sample, summed over its positions.

        Args:
            output: of the model, `[n, *output_shape]`.
            target: `[n, *target_shape]`, int64 classes or float32 numbers.
            losses: the training loss of each target, `[n, *target_shape]`, or of each sample, `[n]`.
            weight: of each target, `[n, *target_shape]` (or of each sample, `[n]`); None is 1 everywhere.

        Returns:
            `[n, width]` float64.
        """

    @abstractmethod
    def value(self, sums: Float64) -> float:
        """The metric of a sum of rows, float64 `[width]`; NaN where there is nothing to measure."""


class MeanMetric(Metric):
    """A weighted mean over targets: rows are (Σ w·v, Σ w). A subclass says what v is."""

    width = 2

    @abstractmethod
    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        """v for each target, `[n, *target_shape]`, or for each sample, `[n]`."""

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        measured = self.measure(output, target, losses).double()
        if measured.shape not in (target.shape, target.shape[:1]):
            raise ValueError(
                f"measured {list(measured.shape)} for targets {list(target.shape)}; measure each target, or each sample"
            )
        weighted, weights = measured, torch.ones_like(measured)
        if weight is not None:
            weights = element_weight(measured, weight.double())
            # A masked target counts for nothing, whatever was measured there.
            weighted = torch.where(weights == 0, 0.0, weights * measured)
        return torch.stack([by_sample(part).sum(1) for part in (weighted, weights)], dim=1)

    def value(self, sums: Float64) -> float:
        return float(sums[0] / sums[1]) if sums[1] > 0 else float("nan")


class LossMetric(MeanMetric):
    """Mean training loss."""

    name = "loss"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return losses


def by_sample(values: Tensor) -> Tensor:
    """`[n]` or `[n, *positions]` as a table, `[n, positions]`."""
    return values.unsqueeze(-1).flatten(1)


def contributions_of(
    metrics: Sequence[Metric], output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None
) -> Tensor:
    """The metrics' rows side by side, `[n, Σ width]` float64 (see `Metric.contributions`)."""
    return torch.cat([metric.contributions(output, target, losses, weight) for metric in metrics], dim=1)


def total_of(
    metrics: Sequence[Metric], output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None
) -> Tensor:
    """The sum of the metrics' rows side by side, float64 `[Σ width]`."""
    return contributions_of(metrics, output, target, losses, weight).sum(dim=0)


def value_of(metric: Metric, sums: Float64) -> float:
    """The metric's value of a sum of rows, `[width]`.

    Raises:
        UserCodeError: what a metric of the user's own returns is no number.
    """
    value = metric.value(sums)
    if type(value) is float:
        return value
    with user_code(f"metric {metric.name}: value"):
        if not hasattr(value, "__float__"):  # text has none, though `float` reads it
            raise TypeError(f"returned a {type(value).__name__}; it must return a number")
        return float(value)
