"""What an engine is tried on before it trains: weights and samples made up for it, always the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
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
    else:
        draw = torch.rand if info.input_kind == "pixels" else torch.randn
        x = draw(shape, generator=generator)
    if info.task == "classification":
        return x, torch.randint(info.classes or 1, wanted, generator=generator)
    return x, torch.randn(wanted, generator=generator)
