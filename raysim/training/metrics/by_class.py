"""Metrics that look at one class at a time: what an overall accuracy says nothing of where classes are unequal."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raysim.data import DataInfo
from raysim.training.losses import element_weight
from raysim.training.metrics.classes import predicted_class
from raysim.training.metrics.metric import MeanMetric, Metric, Sums, by_sample
from raysim.training.transfer import to_device

BINS = 512
"""Scores that `pr_auc` tells apart, for each class."""
REACH = 16.0
"""Log-odds beyond which all scores are one: probabilities of 1e-7 from 0 or 1."""


class Recall(MeanMetric):
    """Share of each class's targets that are found, a metric a class: `recall/0`, `recall/1`, ….

    NaN where a set has no target of the class.
    """

    higher_is_better = True

    def __init__(self, info: DataInfo, wanted: int) -> None:
        super().__init__(info)
        self.name = f"recall/{wanted}"
        self.wanted = wanted

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        own = (target == self.wanted).double()
        weights = element_weight(own, None if weight is None else weight.double()) * own
        return super().contributions(output, target, losses, weights)

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return predicted_class(output, target, self.info.classes or 0) == target


class PrAuc(Metric):
    """Area under the precision-recall curve: average precision Σ (Rₙ − Rₙ₋₁) Pₙ, meant over the classes that occur.

    Each class against the rest; of two classes, class 1 alone. A score is the log-odds of a class's softmax probability
    (a single logit is one already), which orders samples as the probability does. Scores fall into `BINS` bins of equal
    width between −`REACH` and `REACH`, the outermost of which take what lies beyond: two samples whose log-odds are
    less than 2 · 16 / 512 = 1/16 apart may count as tied, as equal scores do. Rows are the weights in each bin, of the
    class's own targets and of all, so shards add up to exactly the curve of their union.
    """

    name = "pr_auc"
    higher_is_better = True

    def __init__(self, info: DataInfo) -> None:
        super().__init__(info)
        classes = info.classes or 0
        self.classes = range(1, 2) if classes == 2 else range(classes)
        self.width = len(self.classes) * 2 * BINS

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        rows = torch.arange(len(target), device=target.device)
        return self._counts(output, target, weight, rows.unsqueeze(1), len(target))

    def total(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        return self._counts(output, target, weight, 0, 1)[0]

    def value(self, sums: Sums) -> float:
        found = [_average_precision(*one) for one in sums.reshape(len(self.classes), 2, BINS) if one[0].sum() > 0]
        return float(np.mean(found)) if found else float("nan")

    def _counts(self, output: Tensor, target: Tensor, weight: Tensor | None, row: Tensor | int, rows: int) -> Tensor:
        """Weights by (class, own or all, bin), float64 `[rows, width]`; sample i is added to row `row[i]`."""
        weights = by_sample(element_weight(torch.empty_like(target, dtype=torch.float64), weight).double())
        labels = by_sample(target.long())
        counts = torch.zeros(rows * self.width, dtype=torch.float64, device=target.device)
        for place, wanted in enumerate(self.classes):
            bins = _bin(by_sample(self._log_odds(output, target, wanted)))
            first = row * self.width + place * 2 * BINS + bins
            counts.scatter_add_(0, first.flatten(), (weights * (labels == wanted)).flatten())
            counts.scatter_add_(0, (first + BINS).flatten(), weights.flatten())
        return counts.view(rows, self.width)

    def _log_odds(self, output: Tensor, target: Tensor, wanted: int) -> Tensor:
        """Of the class against all others, `[n, *positions]`."""
        classes = self.info.classes or 0
        if output.shape == (*target.shape, classes):
            others = output.index_fill(-1, to_device(torch.tensor(wanted), output.device), -torch.inf)
            return output[..., wanted] - others.logsumexp(-1)
        predicted_class(output, target, classes)  # of another shape: says what is wrong
        return output.reshape(target.shape)


def _bin(log_odds: Tensor) -> Tensor:
    """The bin of each score; NaN, which finds nothing, is in the lowest."""
    place = ((log_odds.double().nan_to_num(nan=-REACH) + REACH) * (BINS / (2 * REACH))).floor()
    return place.clamp(0, BINS - 1).long()


def _average_precision(own: Sums, everything: Sums) -> float:
    """Of one class, from its own and all weights in each bin."""
    hits, taken = np.cumsum(own[::-1]), np.cumsum(everything[::-1])
    some = taken > 0
    precision = hits[some] / taken[some]
    return float(np.sum(own[::-1][some] * precision) / hits[-1])
