"""Metrics of pairs of answers, by the rewards r = β (log π(y) - log π₀(y)) that a model implies (loss `dpo`)."""

from __future__ import annotations

from torch import Tensor

from raysim.data import DataInfo
from raysim.training.metrics.metric import MeanMetric


def _ahead(output: Tensor, target: Tensor) -> Tensor:
    """By how much the better answer is ahead, `[n]`, given r / β of both answers `[n, 2]` and which is the better."""
    ahead = output[:, 0] - output[:, 1]
    return ahead.where(target == 0, -ahead)


class RewardAccuracy(MeanMetric):
    """Share of the pairs whose better answer has the larger reward; not of those where both are equal, as at first."""

    name = "reward_accuracy"
    higher_is_better = True

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return (_ahead(output, target) > 0).double()


class RewardMargin(MeanMetric):
    """Mean of the better answer's reward less that of the other one."""

    name = "reward_margin"
    higher_is_better = True

    def __init__(self, info: DataInfo, beta: float = 1.0) -> None:
        """With the β of the loss; 1 is the margin of the log-probabilities themselves."""
        super().__init__(info)
        self._beta = beta

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return self._beta * _ahead(output, target).double()
