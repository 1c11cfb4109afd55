"""What shape a model's output has for these data and this loss, the last layer that gives it, and where it is in what a
forward pass returns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from raysim.data.federation import DataInfo

OUTPUTS = ("logits", "out")
"""Entries of a mapping that are taken for the output, the first that is there."""

OutputShape = tuple[int, ...] | Mapping[str, tuple[int, ...]]
"""Of the output for one sample, or of several by name."""


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


def one_tensor(output: Any) -> Any:
    """The tensor of an output with several entries that predictions are in; its tensors by name where none is found."""
    tensors = entries(output)
    if not tensors:
        return output
    chosen = next((name for name in OUTPUTS if name in tensors), None)
    if chosen is not None:
        return tensors[chosen]
    return next(iter(tensors.values())) if len(tensors) == 1 else tensors


def entries(output: Any) -> dict[str, Tensor]:
    """The tensors of a mapping, a dataclass or a named tuple, by name; none of anything else."""
    named: Any = getattr(output, "_asdict", None)
    if isinstance(output, tuple) and named is not None:
        output = named()
    elif is_dataclass(output) and not isinstance(output, Mapping) and not isinstance(output, type):
        output = {field.name: getattr(output, field.name) for field in fields(output)}
    if not isinstance(output, Mapping):
        return {}
    return {str(name): value for name, value in output.items() if isinstance(value, Tensor)}
