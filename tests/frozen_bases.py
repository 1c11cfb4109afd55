"""Modules with a frozen base, importable by actors from this folder, and small experiments on data that suit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim import Experiment

WIDTH = 167
"""Odd, so that a tensor of a base is known by its size."""
BASE_BYTES = 4 * WIDTH * (WIDTH + 1)


class Adapted(nn.Module):
    """A frozen base, and a head that is trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.head: nn.Module = nn.Linear(WIDTH, 3)
        self.squash = torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.squash(self.base(x)))
        return out


def adapted() -> nn.Module:
    """Named by an import string."""
    return Adapted()


class Unnamed(Adapted):
    """Has dropout, and a function without a name, which `pickle` refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(0.2), self.head)
        self.squash = lambda x: x.tanh()


def unnamed() -> nn.Module:
    """Named by an import string."""
    return Unnamed()


class Teaching(Adapted):
    """Lets its base follow, as a teacher does."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.base.weight.mul_(0.9)
        return super().forward(x)


def arrays() -> dict[str, Any]:
    """Samples of `WIDTH` features in three classes."""
    random = np.random.default_rng(0)
    x, y = random.standard_normal((120, WIDTH)).astype(np.float32), random.integers(0, 3, 120)
    return {"x": x[:100], "y": y[:100], "x_test": x[100:], "y_test": y[100:]}


def experiment_of(folder: Path, executor: str, **sections: Any) -> Experiment:
    """Two rounds of three of four clients, in process or on two actors."""
    values = {
        "rounds": 2,
        "cohort": 3,
        "data": {"partition": {"name": "iid", "clients": 4}},
        "client": {"batch_size": 5, "optimizer": {"lr": 0.05}},
        "training": {"engine": "sequential"},
        "execution": {"executor": executor} | ({"actors": 2, "rounds_ahead": 0} if executor == "ray" else {}),
        "tracking": {"report": False, "directory": str(folder / "runs")},
    }
    return Experiment.parse(values | sections)
