"""A small model with LoRA adapters, for trying out how adapters are aggregated: `mlp_lora`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from raysim.config.model import MlpLoraConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.dense import flat
from raysim.models.outputs import head


class LoraLinear(nn.Linear):
    """A frozen linear layer with an adapter: W x + b + α/r (B A + R) x (Hu et al. 2021, equation 3).

    A `[r, d_in]` begins uniform in ±1/√d_in and B `[d_out, r]` at zero, as in peft; R is the version of the base, where
    there is one (`raysim.models.versioned`).
    """

    residual: Tensor | None

    def __init__(self, width: int, units: int, rank: int, alpha: float) -> None:
        super().__init__(width, units)
        self.requires_grad_(False)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, width).uniform_(-1 / math.sqrt(width), 1 / math.sqrt(width)))
        self.lora_B = nn.Parameter(torch.zeros(units, rank))
        self.register_buffer("residual", None)

    def forward(self, x: Tensor) -> Tensor:
        change = linear(linear(x, self.lora_A), self.lora_B)
        if self.residual is not None:
            change = change + linear(x, self.residual)
        return super().forward(x) + self.scaling * change


def mlp_lora(config: MlpLoraConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """ReLU multi-layer perceptron with LoRA adapters on frozen hidden layers; the last layer trains whole.

    Raises:
        ModelError: the samples are tokens, or the rank is above a layer's.
    """
    layers = flat(config.name, info)
    width = math.prod(info.input_shape)
    for i, units in enumerate(config.hidden, start=1):
        if config.rank > min(width, units):
            raise ModelError(
                f"model.rank: {config.rank} is above the rank of hidden layer {i}, {units} x {width}; use at most "
                f"{min(width, units)}"
            )
        layers[f"hidden{i}"] = LoraLinear(width, units, config.rank, config.alpha)
        layers[f"relu{i}"] = nn.ReLU()
        width = units
    layers.update(head(width, outputs))
    return nn.Sequential(layers)
