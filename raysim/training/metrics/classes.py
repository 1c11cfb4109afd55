"""Metrics of classification."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.training.losses import classes_last, element_weight
from raysim.training.metrics.metric import MeanMetric, Metric, by_sample


def predicted_class(output: Tensor, target: Tensor, classes: int) -> Tensor:
    """The class of the largest logit, the first of several; of a single logit, 1 above 0.

    Args:
        output: `[n, *positions, classes]` or `[n, classes, *positions]` (see `classes_last`), or one logit a target, in
            the shape of the targets or with one dimension of one more, last or second.
        target: `[n, *positions]`.
        classes: number of classes.

    Returns:
        int64 `[n, *positions]`.

    Raises:
        ValueError: the output has another shape.
    """
    logits = classes_last(output, target)
    if logits.shape == (*target.shape, classes):
        return logits.argmax(-1)
    if classes == 2 and output.shape in (target.shape, (*target.shape, 1), (len(target), 1, *target.shape[1:])):
        return (output.reshape(target.shape) > 0).long()
    raise ValueError(
        f"outputs of shape {list(output.shape)} do not fit {classes} classes for {list(target.shape)} targets"
    )


def class_logits(output: Tensor, target: Tensor, classes: int) -> Tensor:
    """A logit a class, `[n, *positions, classes]`; of a single logit z, whose sigmoid is class 1's probability, (0, z).

    Raises:
        ValueError: the output has another shape (see `predicted_class`).
    """
    logits = classes_last(output, target)
    if logits.shape == (*target.shape, classes):
        return logits
    predicted_class(output, target, classes)  # says what is wrong
    single = output.reshape(target.shape)
    return torch.stack([torch.zeros_like(single), single], dim=-1)


class Accuracy(MeanMetric):
    """Share of targets whose class has the largest logit."""

    name = "accuracy"
    higher_is_better = True

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return predicted_class(output, target, self.info.classes or 0) == target


class TopAccuracy(MeanMetric):
    """Share of targets whose class is among the k largest logits; of equal logits the lower class comes first."""

    higher_is_better = True

    def __init__(self, info: DataInfo, k: int) -> None:
        super().__init__(info)
        self.name = f"top{k}"
        self.k = k

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return ahead_of(output, target) < self.k


class HitRate(TopAccuracy):
    """Share of samples whose item is among the k with the largest scores: `topK`, as recommenders call it."""

    def __init__(self, info: DataInfo, k: int) -> None:
        super().__init__(info, k)
        self.name = f"hit_rate{k}"


class DiscountedGain(MeanMetric):
    """Mean of 1 / log2(1 + rank) of the target among all classes, 0 beyond rank k: NDCG of one relevant item.

    Järvelin & Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", TOIS 2002; as in He et al., "Neural
    Collaborative Filtering", WWW 2017, section 4.1. Of equal logits the lower class comes first.
    """

    higher_is_better = True

    def __init__(self, info: DataInfo, k: int) -> None:
        super().__init__(info)
        self.name = f"ndcg{k}"
        self.k = k

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        rank = ahead_of(output, target)
        return torch.where(rank < self.k, 1 / torch.log2(rank.double() + 2), 0.0)


def ahead_of(output: Tensor, target: Tensor) -> Tensor:
    """How many classes come before the target by their logits, int64 `[n, *positions]`; a NaN is behind all."""
    output, target = classes_last(output, target), target.long().unsqueeze(-1)
    own = output.gather(-1, target)
    classes = torch.arange(output.shape[-1], device=output.device)
    # Not `output > own`: a NaN must count as a miss.
    return (~(output <= own) | ((output == own) & (classes < target))).sum(-1)


class BalancedAccuracy(Metric):
    """Mean over the classes that occur of the share of their targets that are found (recall).

    Rows are (hits, targets) for each class.
    """

    name = "balanced_accuracy"
    higher_is_better = True

    def __init__(self, info: DataInfo) -> None:
        super().__init__(info)
        self.classes = info.classes or 0
        self.width = 2 * self.classes

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        predicted, weights = weighted_predictions(output, target, weight, self.classes)
        hits = weights * (predicted == target)
        return torch.cat([_by_class(target, hits, self.classes), _by_class(target, weights, self.classes)], dim=1)

    def value(self, sums: Float64) -> float:
        hits, targets = sums.reshape(2, -1)
        present = targets > 0
        return float(np.mean(hits[present] / targets[present])) if present.any() else float("nan")


class MacroF1(Metric):
    """Mean over classes of F1 = 2 hits / (targets + predictions); classes with neither are left out.

    Rows are (hits, targets + predictions) for each class.
    """

    name = "macro_f1"
    higher_is_better = True

    def __init__(self, info: DataInfo) -> None:
        super().__init__(info)
        self.classes = info.classes or 0
        self.width = 2 * self.classes

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        predicted, weights = weighted_predictions(output, target, weight, self.classes)
        hits = _by_class(target, weights * (predicted == target), self.classes)
        either = _by_class(target, weights, self.classes) + _by_class(predicted, weights, self.classes)
        return torch.cat([hits, either], dim=1)

    def value(self, sums: Float64) -> float:
        hits, either = sums.reshape(2, -1)
        present = either > 0
        return float(np.mean(2 * hits[present] / either[present])) if present.any() else float("nan")


def weighted_predictions(output: Tensor, target: Tensor, weight: Tensor | None, classes: int) -> tuple[Tensor, Tensor]:
    """The predicted class and the weight (float64) of each target, `[n, *positions]`."""
    predicted = predicted_class(output, target, classes)
    weights = element_weight(torch.empty_like(target, dtype=torch.float64), weight)
    return predicted, weights.double()


def _by_class(labels: Tensor, amounts: Tensor, classes: int) -> Tensor:
    """Sum each sample's amounts `[n, *positions]` by label: float64 `[n, classes]`."""
    sums = torch.zeros(len(labels), classes, dtype=torch.float64, device=labels.device)
    return sums.scatter_add_(1, by_sample(labels.long()), by_sample(amounts))
