"""Metrics of language models."""

from __future__ import annotations

import math

from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.training.losses import cross_entropy
from raysim.training.metrics.classes import class_logits
from raysim.training.metrics.metric import MeanMetric


class Perplexity(MeanMetric):
    """exp of the mean cross-entropy of the targets, each with its weight: of tokens, those that are no padding.

    Rows are (Σ w·l, Σ w), so that the perplexity of several clients is that of all their tokens together.
    """

    name = "perplexity"
    higher_is_better = False

    def __init__(self, info: DataInfo, *, of_losses: bool = False) -> None:
        """With `of_losses` the training loss is the cross-entropy, which need not be taken again."""
        super().__init__(info)
        self._of_losses = of_losses

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        if self._of_losses:
            return losses
        return cross_entropy(class_logits(output, target, self.info.classes or 0), target)

    def value(self, sums: Float64) -> float:
        mean = super().value(sums)
        try:
            return math.exp(mean)
        except OverflowError:
            return math.inf
