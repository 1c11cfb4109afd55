"""Metrics of the user's own: a function of a batch, or a metric of torchmetrics, as a `Metric`."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.losses import element_weight
from raysim.training.metrics.metric import MeanMetric, Metric
from raysim.training.named_targets import by_name
from raysim.user_code import user_code

_SMALLER = ("loss", "error", "mae", "mse", "rmse", "perplexity", "brier", "ece")
"""Ends of names of metrics that are better when small, as reports read them."""


class FunctionMetric(MeanMetric):
    """The weighted mean of what a function of (output, target) gives for each sample, or each target."""

    def __init__(self, info: DataInfo, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__(info)
        self._function = function
        self.name = _plain(getattr(function, "__name__", type(function).__name__))
        self.higher_is_better = not self.name.endswith(_SMALLER)

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        given: Any = by_name(target, self.info.targets) if self.info.targets else target
        found = self._function(output, given)
        if not isinstance(found, Tensor) or found.ndim == 0:
            raise ValueError("it returned one number for the batch; return one a sample, they are averaged")
        return found


class TorchMetric(Metric):
    """A metric of torchmetrics whose states add up: its states after one sample are the sample's row.

    Sums of states over any shards, in any order, are those of one pass over all samples.
    """

    def __init__(self, info: DataInfo, metric: Any) -> None:
        super().__init__(info)
        if info.targets:
            raise ConfigError(
                f"evaluation.metrics: {type(metric).__name__} takes one target, the data has several by name; give a "
                "function of (output, targets)"
            )
        self._metric = metric.clone()
        self.name = _plain(type(metric).__name__)
        self._states: dict[str, Tensor] = {}
        for state, default in metric._defaults.items():
            reduction = getattr(metric._reductions.get(state), "__name__", None)
            if not isinstance(default, Tensor) or reduction != "dim_zero_sum":
                raise ConfigError(
                    f"evaluation.metrics: {type(metric).__name__} keeps {state!r}, which is no sum over samples; use a "
                    "metric whose states add up, or one by name"
                )
            self._states[state] = default
        upwards = getattr(metric, "higher_is_better", None)
        self.higher_is_better = not self.name.endswith(_SMALLER) if upwards is None else bool(upwards)
        self.width = sum(prod(default.shape) for default in self._states.values())

    def contributions(self, output: Tensor, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        if output.ndim == target.ndim + 1 and output.shape[-1] == 1:
            output = output.squeeze(-1)
        rows = torch.zeros(len(target), self.width, dtype=torch.float64, device=target.device)
        weights = element_weight(torch.empty_like(target, dtype=torch.float64), weight).reshape(len(target), -1)
        own = weights[:, 0]
        if not torch.equal(weights, own.unsqueeze(1).expand_as(weights)):
            raise ValueError("targets of one sample have several weights, which torchmetrics does not take")
        metric = self._metric.to(target.device)
        for i in torch.nonzero(own).flatten().tolist():
            metric.reset()
            metric.update(output[i : i + 1], target[i : i + 1])
            rows[i] = torch.cat([getattr(metric, state).double().flatten() for state in self._states]) * own[i]
        return rows

    def value(self, sums: Float64) -> float:
        metric = self._metric.to("cpu")
        metric.reset()
        start = 0
        for state, default in self._states.items():
            stop = start + prod(default.shape)
            values = torch.from_numpy(np.ascontiguousarray(sums[start:stop])).view(default.shape)
            setattr(metric, state, values.to(default.dtype))
            start = stop
        metric._update_count = 1  # it warns of a value without samples otherwise
        found = metric.compute()
        if not isinstance(found, Tensor) or found.numel() != 1:
            raise ValueError("its value is no single number; choose an average, such as macro")
        return float(found)


def own_metric(given: Any, info: DataInfo, name: str) -> Metric:
    """The metric that a user's object is: a `Metric`, one of torchmetrics, or a function of (output, target).

    Raises:
        ConfigError: it is none of these, or a metric of torchmetrics whose states do not add up.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, type):
        with user_code(f"evaluation.metrics: {name} cannot be made without arguments", ConfigError):
            given = given()
    if hasattr(given, "_defaults") and hasattr(given, "_reductions") and callable(getattr(given, "update", None)):
        return TorchMetric(info, given)
    if not callable(given):
        raise ConfigError(
            f"evaluation.metrics: {name} is a {type(given).__name__}; expected a subclass of "
            "raysim.training.metrics.Metric, a metric of torchmetrics, or a function of (output, target)"
        )
    return FunctionMetric(info, given)


def _plain(name: str) -> str:
    """A class's or a function's name as a metric is called: words with underscores."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip("<>_")).lower()
