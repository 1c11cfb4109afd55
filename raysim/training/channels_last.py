"""Images whose channels lie side by side in memory, which a processor's convolutions are faster on, while they are few.

The values are those of `[n, channels, height, width]`, and so is the shape; only the strides are others, and with them
the order of additions, hence the last bits. So whether a module is given such images depends on the module alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.models import Blueprint, exclusive_torch
from raysim.models.modes import TrainingModes

MOST_CHANNELS = 128
"""Of any convolution. With twice as many, oneDNN's float32 kernels take half as long again, and more beyond; with these
and fewer, models take 5 to 20 % less time."""


def wants_channels_last(module: nn.Module, info: DataInfo, device: torch.device) -> bool:
    """Whether a module is to be given its images so: it has convolutions, of few channels, and works on them.

    A forward pass may depend on strides (`x.view(len(x), -1)` of a convolution's output), so a copy is tried.
    """
    convolutions = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]
    widest = max((max(layer.in_channels, layer.out_channels) for layer in convolutions), default=0)
    images = len(info.input_shape) == 3 and info.input_kind != "tokens"
    return images and device.type == "cpu" and 0 < widest <= MOST_CHANNELS and _works(module, info.input_shape)


def _works(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether it gives the same to rounding, and runs in training mode."""
    images = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with exclusive_torch(), torch.no_grad():
        try:
            trial = Blueprint.of(module).instantiate()
            modes = TrainingModes(trial)
            trial.eval()
            same = torch.allclose(trial(channels_last(images)), trial(images), rtol=1e-3, atol=1e-3)
            modes.train()
            trial(channels_last(images))
        except Exception:  # a user's module may raise anything; in the usual layout it then says so, or it works
            return False
    return same


def channels_last(images: Tensor) -> Tensor:
    """A copy of `[n, channels, height, width]` with these strides, also where there is one channel."""
    n, channels, height, width = images.shape
    return images.new_empty((n, height, width, channels)).permute(0, 3, 1, 2).copy_(images)
