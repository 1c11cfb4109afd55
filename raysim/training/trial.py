"""The trial of an engine before it trains: on weights and samples made up for it, always the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.data.inputs import pack_inputs
from raysim.training.layout import ParameterLayout


def somewhere_near(layout: ParameterLayout, module: nn.Module) -> Tensor:
    """A vector `[P]` like the module's, without the zeros and ones of first weights, with which rounding is exact."""
    row, generator = layout.pack(module), torch.Generator().manual_seed(1)
    for view in layout.views(row[: layout.trainable]).values():
        relative, absolute = torch.randn((2, *view.shape), generator=generator)
        view.mul_(1 + 0.1 * relative).add_(absolute, alpha=0.01)
    return row


def random_batch(info: DataInfo, size: int) -> tuple[Tensor, Tensor]:
    """Samples of the right shapes, always the same: `[size, *input_shape]` and `[size, *target_shape]`."""
    generator = torch.Generator().manual_seed(0)
    shape, wanted = (size, *info.input_shape), (size, *info.target_shape)
    if info.input_kind == "tokens":
        x = torch.randint(info.vocabulary or 1, shape, generator=generator)
    elif info.input_kind == "record":
        x = _random_record(info, size, generator)
    else:
        draw = torch.rand if info.input_kind == "pixels" else torch.randn
        x = draw(shape, generator=generator)
    if info.task == "classification":
        return x, torch.randint(info.classes or 1, wanted, generator=generator)
    return x, torch.randn(wanted, generator=generator)


def dependence(outcome: Callable[[int], Tensor], sizes: Iterable[int], most: int, x: Tensor) -> str | None:
    """What a client's step depends on beside its own samples; None where it is nothing.

    Args:
        outcome: what a step of the first k of these clients comes to, `[k, …]`; they all have the same batch.
        sizes: numbers k that are tried.
        most: clients there are.
        x: their inputs `[most, B, …]`, which the outcome reads; the last sample of a batch weighs nothing.
    """
    first = outcome(most)[0]

    def differs(k: int) -> bool:
        return not torch.equal(outcome(k), first.expand(k, -1))

    last = x[:, -1].clone()
    x[:, -1] = x[:, 0]
    if x.shape[1] > 1 and differs(2):
        return "the samples of a batch influence each other (as in batch normalisation)"
    x[:, -1] = last
    if any(differs(k) for k in sizes):
        return "a client's gradient would depend on its place among the others, in the last bits"
    return None


def _random_record(info: DataInfo, size: int, generator: torch.Generator) -> Tensor:
    """Words of samples whose inputs are all in range; all flags are set."""
    found = dict[str, Any]()
    for field in info.inputs:
        shape = (size, *field.shape)
        if field.kind in ("tokens", "integers"):
            found[field.name] = torch.randint(field.count or 1, shape, generator=generator).numpy()
        elif field.kind == "flags":
            found[field.name] = np.ones(shape, np.uint8)
        elif field.kind == "pixels":
            found[field.name] = torch.randint(256, shape, generator=generator).numpy().astype(np.uint8)
        else:
            found[field.name] = torch.randn(shape, generator=generator).numpy()
    return torch.from_numpy(pack_inputs(found, info.inputs)[0])
