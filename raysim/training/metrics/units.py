"""Metrics in the units of the data, where the model predicts transformed targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from raysim.arrays import Float64
from raysim.data import TargetScaling
from raysim.training.losses import one_a_target
from raysim.training.metrics.metric import Metric


class InUnits(Metric):
    """A metric of outputs and targets that are transformed back first; losses reach it as they are."""

    def __init__(self, metric: Metric, scaling: TargetScaling) -> None:
        super().__init__(metric.info)
        self.name, self.higher_is_better, self.width = metric.name, metric.higher_is_better, metric.width
        self._metric, self._scaling = metric, scaling

    def contributions(self, output: Any, target: Tensor, losses: Tensor, weight: Tensor | None) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError("the model has several outputs, of which none is known to be in the units of the target")
        back = in_units(one_a_target(output, target), self._scaling), in_units(target, self._scaling)
        return self._metric.contributions(*back, losses, weight)

    def value(self, sums: Float64) -> float:
        return self._metric.value(sums)


def in_units(values: Tensor, scaling: TargetScaling) -> Tensor:
    """What models predict `[n, *target_shape]` in the units of the data, in its own type; computed in float64."""
    shape = values.shape[1:] if len(scaling.centre) > 1 else ()
    centre, divisor = (
        torch.tensor(numbers, dtype=torch.float64, device=values.device).reshape(shape)
        for numbers in (scaling.centre, scaling.divisor)
    )
    found = values.double() * divisor + centre
    return (torch.expm1(found) if scaling.log1p else found).to(values.dtype)
