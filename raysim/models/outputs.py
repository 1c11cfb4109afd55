"""What shape a model's output has for these data and this loss, and the last layer that gives it."""

from __future__ import annotations

import math

from torch import nn

from raysim.data.federation import DataInfo


def output_shape(info: DataInfo, loss: str = "auto") -> tuple[int, ...]:
    """Shape of the model's output for one sample.

    Classes: one logit a class, `(*target_shape, classes)`; with `binary_cross_entropy` one logit a target. Numbers:
    `target_shape`, hence `()` for a single number.

    Args:
        info: what a sample looks like.
        loss: the configuration's `training.loss`.
    """
    if info.classes is None or loss == "binary_cross_entropy":
        return info.target_shape
    return (*info.target_shape, info.classes)


def head(features: int, outputs: tuple[int, ...], *, bias: bool = True) -> dict[str, nn.Module]:
    """The named last layers: `[n, features]` to `[n, *outputs]`."""
    layers: dict[str, nn.Module] = {"output": nn.Linear(features, math.prod(outputs), bias=bias)}
    if len(outputs) == 0:
        layers["squeeze"] = nn.Flatten(0)
    elif len(outputs) > 1:
        layers["unflatten"] = nn.Unflatten(1, outputs)
    return layers
