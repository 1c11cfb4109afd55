"""A module with a frozen base, importable by actors from this folder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTH = 151


class Adapted(nn.Module):
    """A frozen base, a head that is trained, and a function without a name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(WIDTH, 3))
        self.squash = lambda x: x.tanh()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(self.squash(self.base(x)))
        return found


def adapted() -> nn.Module:
    """Named by an import string."""
    return Adapted()
