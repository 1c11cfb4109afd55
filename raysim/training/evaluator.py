"""Evaluating a model: sums of metrics over samples, in ranges that never depend on who evaluates them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raysim.data import DataInfo, Samples
from raysim.training.batches import Shard, model_input, target
from raysim.training.engine import generator_of
from raysim.training.layout import ParameterLayout
from raysim.training.losses import Loss, element_weight
from raysim.training.metrics import Metric, total_of

SUM_BITS = 40
"""Fraction bits of the exact sums: a range's float64 sums are rounded to 2^-40, and integers add up exactly."""

ExactSums = tuple[int | None, ...]


def merge_exact(parts: Sequence[ExactSums]) -> npt.NDArray[np.float64]:
    """The float64 sums `[width]` over several ranges; NaN where a range was not finite."""
    columns = zip(*parts, strict=True)
    return np.array([_total(column) / 2.0**SUM_BITS for column in columns])


def _total(column: tuple[int | None, ...]) -> float:
    values = [value for value in column if value is not None]
    return float(sum(values)) if len(values) == len(column) else math.nan


class Evaluator:
    """Holds a module of its own in evaluation mode; `load` a model, then evaluate samples."""

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
        self.module = copy.deepcopy(module).to(device).eval()
        self.loss, self.metrics, self.info, self.device, self.batch_size = loss, metrics, info, device, batch_size
        self._row = torch.zeros(layout.size, device=device)
        layout.bind(self._row, self.module)
        self._generator = generator_of(device)

    def load(self, model: Tensor) -> None:
        """Evaluate this model `[P]` from now on."""
        self._row.copy_(model)

    def sums(self, samples: Samples) -> npt.NDArray[np.float64]:
        """Sums of every metric's contributions, float64 `[width]`."""
        # A module that draws random numbers even now draws the same ones, whoever was evaluated before.
        self._generator.manual_seed(0)
        total = torch.zeros(sum(metric.width for metric in self.metrics), dtype=torch.float64, device=self.device)
        for output, y, weight in self._outputs(samples):
            elements = self.loss(output, y)
            total += total_of(self.metrics, output, y, elements, weight)  # on the device: nothing waits for a batch
        return total.cpu().numpy()

    def exact_sums(self, samples: Samples) -> ExactSums:
        """The same as integers in units of 2^-40, which add up in any order to the same value; None is not finite."""
        return tuple(round(s * 2.0**SUM_BITS) if math.isfinite(s) else None for s in self.sums(samples).tolist())

    def mean_loss(self, samples: Samples) -> float:
        """Weighted mean loss over the samples."""
        loss = self.metrics[0]
        return loss.value(self.sums(samples)[: loss.width])

    def loss_moments(self, samples: Samples) -> tuple[float, float]:
        """Weighted mean of the losses and of their squares, of targets where a sample has several; NaN without any."""
        self._generator.manual_seed(0)
        total = torch.zeros(3, dtype=torch.float64, device=self.device)
        for output, y, weight in self._outputs(samples):
            losses = self.loss(output, y).double()
            shares = element_weight(losses, None if weight is None else weight.double())
            counted = torch.where(shares == 0, 0.0, losses)  # a masked target counts for nothing, whatever it measured
            total += torch.stack([(shares * counted).sum(), (shares * counted**2).sum(), shares.sum()])
        mean, square = (total[:2] / total[2]).tolist()
        return mean, square

    @torch.no_grad()
    def _outputs(self, samples: Samples) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        for start in range(0, len(samples), self.batch_size):
            shard = Shard.load(samples.slice(start, start + self.batch_size), self.device)
            output = self.module(model_input(shard.x, self.info))
            yield output, target(shard.y, self.info), shard.weight
