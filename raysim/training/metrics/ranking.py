"""Metrics of the order of scores: the areas under precision-recall and ROC curves.

No sum over samples tells how scores are ordered, so these metrics are made of the scores themselves. A set of few
scores travels as it is (`Listed`) and gives the exact area. A set of many is counted in bins (`Counted`), which add up.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float32, Float64, Int64
from raysim.data import DataInfo, Samples
from raysim.training.losses import element_weight
from raysim.training.metrics.classes import class_logits
from raysim.training.metrics.metric import Metric, by_sample
from raysim.training.transfer import to_device

LISTED = 1 << 22
"""Scores (targets times classes) of a set up to which areas are exact."""
CELLS = 1 << 18
"""Bins of all classes together, beyond; each class has the same power of two of them."""
LARGEST = 2.0**20
"""Log-odds beyond which all scores of a side share a bin."""


class Curve(NamedTuple):
    """What lies at each distinct score, from the highest to the lowest: float64 `[k]` each."""

    own: Float64
    """Weight of the class's own targets."""
    every: Float64
    """Weight of all targets."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Scores as they are.

    Attributes:
        values: of each target for each class in question, float32 `[t, places]`.
        labels: the place of each target's class, -1 for a class that is not in question; int64 `[t]`.
        weights: float64 `[t]`; None is 1 everywhere.
    """

    values: Float32
    labels: Int64
    weights: Float64 | None

    def curves(self) -> list[Curve]:
        """A curve for each class. The same bits in whatever order the targets came."""
        return [self._curve(place) for place in range(self.values.shape[1])]

    def _curve(self, place: int) -> Curve:
        values, own = self.values[:, place], self.labels == place
        if self.weights is None:
            order, weights = np.argsort(-values), np.ones(len(values))
        else:
            order, weights = np.lexsort((self.weights, own, -values)), self.weights
        values, own, weights = values[order], own[order], weights[order]
        starts = np.flatnonzero(np.append(True, values[1:] != values[:-1])) if len(values) else np.zeros(0, np.int64)
        return _without_empty(np.add.reduceat(weights * own, starts), np.add.reduceat(weights, starts))


@dataclass(frozen=True, slots=True)
class Counted:
    """Weights in bins of the score.

    Attributes:
        cells: by class, own or all, and bin, ascending: int64 `[places, 2, bins]`, in units.
        unit: a power of two (`WholeSet.unit`).
    """

    cells: Int64
    unit: float

    def curves(self) -> list[Curve]:
        """A curve for each class: scores in one bin are tied."""
        return [_without_empty(*one) for one in self.cells[:, :, ::-1] * self.unit]


def _without_empty(own: Float64, every: Float64) -> Curve:
    """A curve; where all targets are masked, there is no point of it."""
    some = every > 0
    return Curve(own[some], every[some])


Scores = Listed | Counted


def merged(parts: Sequence[Scores]) -> Scores:
    """The scores of several ranges of one set together."""
    if isinstance(parts[0], Counted):
        cells = sum((one.cells for one in parts if isinstance(one, Counted)), np.zeros_like(parts[0].cells))
        return Counted(cells, parts[0].unit)
    listed = [one for one in parts if isinstance(one, Listed)]
    weights = [one.weights for one in listed if one.weights is not None]
    return Listed(
        np.concatenate([one.values for one in listed]),
        np.concatenate([one.labels for one in listed]),
        np.concatenate(weights) if weights else None,
    )


@dataclass(frozen=True, slots=True)
class WholeSet:
    """What decides between list and bins, the same for every range of a set.

    Attributes:
        targets: their number.
        heaviest: the largest weight of one.
    """

    targets: int
    heaviest: float = 1.0

    @classmethod
    def of(cls, samples: Samples) -> WholeSet:
        """All samples of the set; their weights are looked through."""
        heaviest = 1.0 if samples.weight is None else float(samples.weight.max(initial=0.0))
        return cls(math.prod(samples.y.shape), heaviest)

    @property
    def unit(self) -> float:
        """Of weights in bins: a power of two, so small that the weights of all targets come to less than 2^62."""
        return 2.0 ** (self.targets.bit_length() + math.frexp(self.heaviest)[1] - 62)


class Collector:
    """Takes the scores of a set, batch by batch, on the device."""

    def __init__(self, metric: RankMetric, whole: WholeSet, device: torch.device) -> None:
        """For a set of which this may be a range."""
        self._metric = metric
        self._cells: Tensor | None = None
        self._batches: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._unit = whole.unit
        if whole.targets * len(metric.classes) > LISTED:
            self._cells = torch.zeros((len(metric.classes), 2, bins_for(len(metric.classes))), dtype=torch.int64)
            self._cells = self._cells.to(device)

    def add(self, output: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Take a batch (see `Metric.contributions`)."""
        scores, labels = self._metric.scores(output, target)
        weights = None
        if weight is not None:
            weights = element_weight(torch.empty_like(target, dtype=torch.float64), weight.double()).flatten()
        if self._cells is None:
            self._batches.append((scores, labels, weights))
            return
        counted = torch.ones_like(labels, dtype=torch.float64) if weights is None else weights
        units = (counted / self._unit).round().long().unsqueeze(1)
        places, _, count = self._cells.shape
        every = _bins(scores, count) + count * to_device(np.arange(1, 2 * places, 2), scores.device)
        own = every.gather(1, labels.clamp(min=0).unsqueeze(1)) - count
        cells = self._cells.view(-1)
        cells.scatter_add_(0, every.flatten(), units.expand_as(every).flatten())
        cells.scatter_add_(0, own.flatten(), (units * (labels >= 0).unsqueeze(1)).flatten())

    def scores(self) -> Scores:
        """All that was taken."""
        if self._cells is not None:
            return Counted(self._cells.cpu().numpy(), self._unit)
        places = len(self._metric.classes)
        if not self._batches:
            return Listed(np.zeros((0, places), np.float32), np.zeros(0, np.int64), None)
        values, labels, weights = zip(*self._batches, strict=True)
        known = [one for one in weights if one is not None]
        counted = torch.cat(known).cpu().numpy() if known else None
        return Listed(torch.cat(values).cpu().numpy(), torch.cat(labels).cpu().numpy(), counted)


class RankMetric(Metric):
    """An area under a curve, of one class against the rest; the mean over the classes that have one.

    Contributes no row (`width` is 0): `of_curves` makes it of the scores, log-odds of a class's softmax probability,
    which order targets as the probability does. NaN scores are the lowest.
    """

    width = 0
    higher_is_better = True

    def __init__(self, info: DataInfo, positive: int | None = None) -> None:
        """Of the class `positive`; by default of every class, and of two classes of class 1."""
        super().__init__(info)
        classes = info.classes or 0
        alone = 1 if positive is None and classes == 2 else positive
        self.classes = tuple(range(classes)) if alone is None else (alone,)

    @abstractmethod
    def area(self, curve: Curve) -> float:
        """Of one class; NaN where its targets, or all others, are missing."""

    def of_curves(self, curves: Sequence[Curve]) -> float:
        """The mean over the classes; NaN where none has an area."""
        areas = [area for curve in curves if not math.isnan(area := self.area(curve))]
        return float(np.mean(areas)) if areas else math.nan

    def scores(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Scores float32 `[t, places]` of all targets, and the place of each one's class, -1 for none, `[t]`."""
        logits = class_logits(output, target, self.info.classes or 0).reshape(target.numel(), -1)
        odds = _log_odds(logits)[:, self.classes[0] : self.classes[-1] + 1].float()
        labels = by_sample(target.long()).flatten()
        if len(self.classes) == 1:
            labels = (labels == self.classes[0]).long() - 1
        return odds.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), labels

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        return torch.zeros((len(target), 0), dtype=torch.float64, device=target.device)

    def value(self, sums: Float64) -> float:
        return math.nan


class PrAuc(RankMetric):
    """Area under the precision-recall curve: average precision Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores.

    As scikit-learn's `average_precision_score`. NaN where a class has no targets.
    """

    name = "pr_auc"

    def area(self, curve: Curve) -> float:
        hits, taken = np.cumsum(curve.own), np.cumsum(curve.every)
        if not len(hits) or hits[-1] <= 0:
            return math.nan
        return float(np.sum(curve.own * (hits / taken)) / hits[-1])


class RocAuc(RankMetric):
    """Area under the ROC curve: the share of pairs (own target, other target) in the right order, ties as halves.

    As scikit-learn's `roc_auc_score`, one class against the rest. NaN where a class has no targets, or all of them.
    """

    name = "roc_auc"

    def area(self, curve: Curve) -> float:
        others = curve.every - curve.own
        pairs = float(curve.own.sum() * others.sum())
        if not pairs > 0:
            return math.nan
        above = np.cumsum(curve.own) - curve.own
        return float(np.sum(others * (above + curve.own / 2)) / pairs)


def bins_for(classes: int) -> int:
    """Bins of each class: a power of two, at least 16."""
    return max(16, 1 << (max(CELLS // classes, 1)).bit_length() - 1)


def _bins(scores: Tensor, bins: int) -> Tensor:
    """The bin of each score: equal widths of asinh(log-odds), so fine near 0 and in proportion far from it."""
    span = math.asinh(LARGEST)
    place = ((scores.double().clamp(-LARGEST, LARGEST).asinh() + span) * (bins / (2 * span))).floor()
    return place.clamp(0, bins - 1).long()


def _log_odds(logits: Tensor) -> Tensor:
    """Of each class against all others, float64 `[t, classes]`, without loss of digits however sure the model is."""
    z = logits.double()
    top = z.argmax(-1, keepdim=True)
    largest = z.gather(-1, top)
    exponentials = (z - largest).exp()
    # For all but the largest, the others' sum is at least 1; the largest itself would be what cancels.
    odds = z - largest - (exponentials.sum(-1, keepdim=True) - exponentials).log()
    rest = z.scatter(-1, top, -torch.inf).logsumexp(-1, keepdim=True)
    return odds.scatter(-1, top, largest - rest)
