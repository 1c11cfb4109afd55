"""Evaluating a model: sums and scores of samples, in ranges that never depend on who evaluates them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Float64
from raysim.data import DataInfo, Samples
from raysim.training.batches import Batch, Shard, model_input, target
from raysim.training.engine import generator_of
from raysim.training.handed import losses_of
from raysim.training.layout import ParameterLayout
from raysim.training.losses import Loss, element_weight
from raysim.training.metrics import (
    Collector,
    ConfusionCounts,
    Metric,
    RankMetric,
    Scores,
    WholeSet,
    contributions_of,
    total_of,
    values_of,
)
from raysim.training.model_loss import ModelLoss
from raysim.training.resident import Resident
from raysim.user_code import user_code

SUM_BITS = 40
"""Fraction bits of the exact sums: a range's float64 sums are rounded to 2^-40, and integers add up exactly."""

ExactSums = tuple[int | None, ...]


def add_exact(parts: Sequence[ExactSums]) -> ExactSums:
    """The sums over several ranges; None where one was not finite."""
    return tuple(_total(column) for column in zip(*parts, strict=True))


def merge_exact(parts: Sequence[ExactSums]) -> Float64:
    """The float64 sums `[width]` over several ranges; NaN where a range was not finite."""
    return np.array([math.nan if total is None else float(total) / 2.0**SUM_BITS for total in add_exact(parts)])


def _total(column: tuple[int | None, ...]) -> int | None:
    values = [value for value in column if value is not None]
    return sum(values) if len(values) == len(column) else None


def fitting(sets: Sequence[Samples], room: int) -> Iterator[list[Samples]]:
    """The sets in their order, in groups of at most `room` samples; a larger set is a group of its own."""
    group: list[Samples] = []
    taken = 0
    for one in sets:
        if group and taken + len(one) > room:
            yield group
            group, taken = [], 0
        group.append(one)
        taken += len(one)
    if group:
        yield group


def side_by_side(sets: Sequence[Samples]) -> Samples:
    """The samples of these sets, one set after the other, copied."""
    weights = [one.weight for one in sets if one.weight is not None]
    x, y = (np.concatenate([getattr(one, name) for one in sets]) for name in ("x", "y"))
    return Samples(x, y, np.concatenate(weights) if weights else None)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two outputs `[n, *output_shape]` differ by no more than rounding."""
    if one.shape != other.shape:
        return False
    largest = other.nan_to_num(posinf=0, neginf=0).abs().max().item() if other.numel() else 0.0
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4 * largest, equal_nan=True)


class Evaluator:
    """Holds a module in evaluation mode, the evaluator's from now on; `load` a model, then evaluate samples."""

    def __init__(
        self,
        module: nn.Module,
        layout: ParameterLayout,
        loss: Loss,
        metrics: Sequence[Metric],
        info: DataInfo,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.module = module.to(device).eval()
        self.loss, self.metrics, self.info, self.device, self.batch_size = loss, metrics, info, device, batch_size
        self._row = torch.zeros(layout.size, device=device)
        layout.bind(self._row, self.module)
        self._generator = generator_of(device)
        self._resident = Resident()
        self._ranked = next((metric for metric in metrics if isinstance(metric, RankMetric)), None)

    def load(self, model: Tensor) -> None:
        """Evaluate this model `[P]` from now on."""
        self._row.copy_(model)

    def sums(self, samples: Samples) -> Float64:
        """Sums of every metric's contributions, float64 `[width]`."""
        return self._measured(samples)

    def values(self, samples: Samples) -> Float64:
        """Every metric of these samples alone, `[metrics]`; NaN where there is nothing to measure."""
        scores = self._collector(samples, None)
        sums = self._measured(samples, scores)
        return np.array(list(values_of(self.metrics, sums, None if scores is None else scores.scores()).values()))

    def each(self, sets: Sequence[Samples]) -> list[Float64]:
        """The metrics of each of these sets alone, as `values` gives them: `[metrics]` each.

        Small sets go through the model side by side, as many as a batch holds. Should the model's output for the
        largest of them then be another than when it is alone, beyond rounding, samples of one batch affect each
        other, or the model draws random numbers: these sets go through one by one. That depends on the sets and the
        model, never on what was evaluated before.
        """
        found: list[Float64] = []
        for group in fitting(sets, self.batch_size):
            found += self._side_by_side(group) or [self.values(one) for one in group]
        return found

    def _side_by_side(self, sets: Sequence[Samples]) -> list[Float64] | None:
        """The metrics of each; None where they have to be alone, or there is but one."""
        sizes = [len(one) for one in sets]
        if len(sets) < 2 or sum(sizes) > self.batch_size:
            return None
        self._generator.manual_seed(0)
        ((_, output, y, weight),) = self._outputs(side_by_side(sets))
        largest = sizes.index(max(sizes))
        start = sum(sizes[:largest])
        self._generator.manual_seed(0)
        ((_, alone, _, _),) = self._outputs(sets[largest])
        if not isinstance(output, Tensor) or isinstance(self.loss, ModelLoss):
            return None
        if not _same(output[start : start + len(alone)], alone):
            return None
        with user_code("training.loss"):
            elements = self.loss(output, y)
        if elements.ndim == 0:  # of a batch as a whole
            return None
        rows = contributions_of(self.metrics, output, y, elements, weight)
        sums = torch.stack([of_set.sum(dim=0) for of_set in rows.split_with_sizes(sizes)]).cpu().numpy()
        scores: list[Scores | None] = [None] * len(sets)
        if self._ranked is not None:
            weights = [None] * len(sets) if weight is None else weight.split_with_sizes(sizes)
            batches = zip(output.split_with_sizes(sizes), y.split_with_sizes(sizes), weights, strict=True)
            for i, batch in enumerate(batches):
                collector = Collector(self._ranked, WholeSet.of(sets[i]), self.device)
                collector.add(*batch)
                scores[i] = collector.scores()
        return [np.array(list(values_of(self.metrics, *one).values())) for one in zip(sums, scores, strict=True)]

    def exact_sums(
        self,
        samples: Samples,
        whole: WholeSet | None = None,
        confusion: ConfusionCounts | None = None,
        key: Hashable = None,
    ) -> tuple[ExactSums, Scores | None]:
        """What adds up over ranges of a set, in any order, to the same bits.

        Args:
            samples: a range of the set.
            whole: the set; by default the range is all of it.
            confusion: counts the samples, too, where it is given.
            key: of a range that will be evaluated again: its samples may be kept as the model takes them.

        Returns:
            The sums as integers in units of 2^-40, None where one is not finite; and the scores, where a metric looks
            at their order.
        """
        scores = self._collector(samples, whole)
        sums = self._measured(samples, scores, confusion, key)
        exact = tuple(round(s * 2.0**SUM_BITS) if math.isfinite(s) else None for s in sums.tolist())
        return exact, None if scores is None else scores.scores()

    def _collector(self, samples: Samples, whole: WholeSet | None) -> Collector | None:
        if self._ranked is None:
            return None
        return Collector(self._ranked, WholeSet.of(samples) if whole is None else whole, self.device)

    def _measured(
        self,
        samples: Samples,
        scores: Collector | None = None,
        confusion: ConfusionCounts | None = None,
        key: Hashable = None,
    ) -> Float64:
        # A module that draws random numbers even now draws the same ones, independent of what was evaluated before.
        self._generator.manual_seed(0)
        total = torch.zeros(sum(metric.width for metric in self.metrics), dtype=torch.float64, device=self.device)
        for x, output, y, weight in self._outputs(samples, key):
            with user_code("training.loss"):
                elements = losses_of(self.loss, self.module, x, output, y)
            total += total_of(self.metrics, output, y, elements, weight)  # on the device: nothing waits for a batch
            if scores is not None:
                scores.add(output, y, weight)
            if confusion is not None:
                confusion.add(output, y, weight)
        return total.cpu().numpy()

    def mean_loss(self, samples: Samples) -> float:
        """Weighted mean loss over the samples."""
        loss = self.metrics[0]
        return loss.value(self.sums(samples)[: loss.width])

    def loss_moments(self, samples: Samples) -> tuple[float, float]:
        """Weighted mean of the losses and of their squares, of targets where a sample has several; NaN without any."""
        self._generator.manual_seed(0)
        total = torch.zeros(3, dtype=torch.float64, device=self.device)
        for x, output, y, weight in self._outputs(samples):
            with user_code("training.loss"):
                losses = losses_of(self.loss, self.module, x, output, y).double()
            shares = element_weight(losses, None if weight is None else weight.double())
            counted = torch.where(shares == 0, 0.0, losses)  # a masked target counts for nothing, whatever it measured
            total += torch.stack([(shares * counted).sum(), (shares * counted**2).sum(), shares.sum()])
        mean, square = (total[:2] / total[2]).tolist()
        return mean, square

    @torch.no_grad()
    def _outputs(self, samples: Samples, key: Hashable = None) -> Iterator[tuple[Tensor, Any, Tensor, Tensor | None]]:
        def batch(number: int) -> Batch:
            start = number * self.batch_size
            shard = Shard.load(samples.slice(start, start + self.batch_size), self.device)
            return Batch(model_input(shard.x, self.info), target(shard.y, self.info), shard.weight)

        for one in self._resident.of(key, -(-len(samples) // self.batch_size), batch):
            with user_code("the model"):  # a generator would turn a `StopIteration` into something else
                output = self.module(one.x)
            yield one.x, output, one.y, one.weight
