"""Modules with LoRA adapters, and the rules that aggregate them."""

from __future__ import annotations

import torch
from torch import nn

from raysim.models import with_versions
from raysim.models.lora import LoraLinear

RULES = ("fedit", "ffa_lora", "rolora", "fedsa_lora", "fedex_lora", "flora", "flexlora", "hlora")


def adapted(rank: int = 3, *, versions: bool = True) -> nn.Module:
    """Two layers with adapters of unequal ranks, running statistics between them, and a head; B is not zero."""
    module = nn.Sequential(LoraLinear(5, 6, rank, 6.0), nn.BatchNorm1d(6), LoraLinear(6, 4, rank - 1, 6.0))
    module.append(nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(0)
    for name, one in module.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(one, generator=generator)
    return with_versions(module) if versions else module
