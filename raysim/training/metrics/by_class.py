"""Metrics that look at one class at a time: what an overall accuracy says nothing of where classes are unequal."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.training.losses import element_weight
from raysim.training.metrics.classes import predicted_class, weighted_predictions
from raysim.training.metrics.metric import MeanMetric, Metric, by_sample


class Recall(MeanMetric):
    """Share of a class's targets that are found: a metric a class, or that of `evaluation.positive`.

    NaN where a set has no target of the class.
    """

    higher_is_better = True

    def __init__(self, info: DataInfo, wanted: int, name: str) -> None:
        super().__init__(info)
        self.name, self.wanted = name, wanted

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        own = (target == self.wanted).double()
        weights = element_weight(own, None if weight is None else weight.double()) * own
        return super().contributions(output, target, losses, weights)

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return predicted_class(output, target, self.info.classes or 0) == target


class _Counted(Metric):
    """A ratio of two counts of a class; its rows are (numerator, denominator)."""

    higher_is_better = True
    width = 2

    def __init__(self, info: DataInfo, wanted: int, name: str) -> None:
        super().__init__(info)
        self.name, self.wanted = name, wanted

    def counts(self, output: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, ...]:
        """Weight of hits, targets and predictions of the class for each sample, float64 `[n]` each."""
        predicted, weights = weighted_predictions(output, target, weight, self.info.classes or 0)
        own, found = target == self.wanted, predicted == self.wanted
        return tuple(by_sample(weights * chosen).sum(1) for chosen in (own & found, own, found))


class Precision(_Counted):
    """Share of the predictions of a class that are right: a metric a class, or that of `evaluation.positive`.

    Rows are (hits, predictions). NaN where the class is never predicted.
    """

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        hits, _, predictions = self.counts(output, target, weight)
        return torch.stack([hits, predictions], dim=1)

    def value(self, sums: Float64) -> float:
        return float(sums[0] / sums[1]) if sums[1] > 0 else math.nan


class F1(_Counted):
    """F1 = 2 hits / (targets + predictions) of a class: a metric a class, or that of `evaluation.positive`.

    Rows are (hits, targets + predictions). NaN where the class neither occurs nor is predicted.
    """

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        hits, targets, predictions = self.counts(output, target, weight)
        return torch.stack([hits, targets + predictions], dim=1)

    def value(self, sums: Float64) -> float:
        return float(2 * sums[0] / sums[1]) if sums[1] > 0 else math.nan
