"""Forms of data and model that a user may bring: what is common to the tests that train each beside a plain loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysim import Experiment, Simulation

RANDOM = np.random.default_rng(11)
X = RANDOM.normal(size=(20, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, 20)
Y[:3] = 0, 1, 2
OWNERS = np.array(["a"] * 12 + ["b"] * 8)
PARTS = slice(0, 12), slice(12, 20)
"""Rows of the two clients."""
LR, ROUNDS = 0.3, 2

MeanLoss = Callable[[nn.Module, slice], Tensor]
"""(module, rows of a client) to the mean loss of its samples, as plain torch code computes it."""


def linear(inputs: int = 4, outputs: int = 3) -> nn.Module:
    torch.manual_seed(5)
    return nn.Linear(inputs, outputs)


def cross_entropy(module: nn.Module, rows: slice) -> Tensor:
    """Of the plain samples X and Y."""
    return F.cross_entropy(module(torch.from_numpy(X[rows])), torch.from_numpy(Y[rows]))


@dataclass(frozen=True)
class Form:
    """A form of data or model, and the plain torch code that it must agree with."""

    data: Callable[[], Any]
    loss: MeanLoss = cross_entropy
    module: Callable[[], nn.Module] = linear
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the experiment beside those of all forms."""
    handed: Callable[[], Mapping[str, Any]] = dict
    """Further arguments of `Simulation`."""
    engines: tuple[str, ...] = ("sequential",)
    """That train it; both where the form reaches the forward pass or the loss."""
    parts: tuple[slice, ...] = PARTS
    """Samples of each client."""
    by_name: bool = False
    """Whether the configuration names the model; `module` is then what it stands for."""


def experiment(engine: str, settings: Mapping[str, Any], executor: str = "inprocess") -> Experiment:
    values: dict[str, Any] = {
        "rounds": ROUNDS,
        "cohort": 1.0,
        "data": {"partition": "natural", "test": 0.0},
        "client": {"batch_size": 16, "optimizer": {"lr": LR}},
        "training": {"engine": engine, "compile": False},
        "execution": {"executor": executor},
        "tracking": {"report": False},
    }
    for section, entries in settings.items():
        values[section] = values.get(section, {}) | entries
    return Experiment.parse(values)


def train(form: Form, engine: str, folder: Path, executor: str = "inprocess") -> tuple[nn.Module, dict[str, float]]:
    """The model that raysim ends with, and its last metrics."""
    given = {"data": form.data(), **form.handed()} | ({} if form.by_name else {"model": form.module()})
    with Simulation(experiment(engine, form.settings, executor), directory=folder, **given) as simulation:
        *_, last = simulation
        return simulation.model(), last.metrics


def plain_averaging(module: nn.Module, loss: MeanLoss, parts: tuple[slice, ...] = PARTS) -> nn.Module:
    """Federated averaging as everybody would write it: a full gradient step of each client in a round."""
    module = copy.deepcopy(module).train()
    sizes = [rows.stop - rows.start for rows in parts]
    for _ in range(ROUNDS):
        trained = []
        for rows in parts:
            own = copy.deepcopy(module)
            optimizer = torch.optim.SGD(own.parameters(), lr=LR)
            loss(own, rows).backward()
            optimizer.step()
            trained.append(own)
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                each = [size * dict(own.named_parameters())[name] for size, own in zip(sizes, trained, strict=True)]
                parameter.copy_(sum(each[1:], each[0]) / sum(sizes))
    return module


def check(form: Form, engine: str, folder: Path, executor: str = "inprocess") -> dict[str, float]:
    """Train the form and compare each parameter with the plain loop's; the metrics."""
    found, metrics = train(form, engine, folder, executor)
    expected = plain_averaging(form.module(), form.loss, form.parts)
    for (name, ours), theirs in zip(found.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-6, msg=lambda line, name=name: f"{name}: {line}")
    return metrics
