"""Three clients of a small model, trained in every engine: what steps are compared with plain loops on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysim.config.client import ClientConfig
from raysim.data import DataInfo, Samples
from raysim.execution.preparation import engine_choice
from raysim.training import (
    Clients,
    Engine,
    LocalUpdate,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Shard,
    Shards,
    Trainer,
    clip_of,
    column_rates,
    row_optimizer,
)
from raysim.training.losses import cross_entropy
from raysim.training.rows import RowsEngine

INFO = DataInfo("classification", (13,), "real", classes=4)
CPU = torch.device("cpu")
WORK = LocalWork(5, 2)
SIZES = [13, 11, 6]
LR = 0.05
SETTING = RoundSetting(1, 2, LR)
ENGINES = ["sequential", "rows"]
COMPILER = pytest.mark.skipif(not engine_choice.has_compiler(), reason="needs a C++ compiler")


def compiled_alone(every: Any, *compiled: str) -> list[Any]:
    """Every engine with each of these, compiled with some: a compilation takes seconds."""
    eager = [pytest.param(one, engine) for one in every for engine in ENGINES]
    return eager + [pytest.param(one, "compiled", marks=COMPILER) for one in compiled]


def drawn(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with weights drawn from the seed; the global generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build()


def module() -> nn.Module:
    return drawn(lambda: nn.Sequential(nn.Linear(13, 9), nn.Sigmoid(), nn.Linear(9, 4)))


def samples(client: int) -> Samples:
    random = np.random.default_rng(client)
    x = random.standard_normal((SIZES[client], 13)).astype(np.float32)
    return Samples(x, random.integers(0, 4, SIZES[client]))


def local(c: Clients) -> Mapping[str, Tensor]:
    c.descend()
    return {"row": c.rows.clone()}


def trained(client: ClientConfig, engine_name: str, setting: RoundSetting = SETTING, work: LocalWork = WORK) -> Tensor:
    """The rows of three clients after their local steps."""
    net = module()
    layout = ParameterLayout(net)
    start, optimizer = layout.pack(net), row_optimizer(client.optimizer, column_rates(client, layout))
    clip = clip_of(client, layout)
    with torch.random.fork_rng(devices=[]):
        if engine_name == "sequential":
            engine: Engine = SequentialEngine(net, layout, cross_entropy, INFO, CPU)
        else:
            compiled, update = engine_name == "compiled", LocalUpdate(optimizer, clip)
            made = RowsEngine(net, layout, cross_entropy, INFO, CPU, 3, 5, compiled=compiled, update=update)
            assert not compiled or not made.codes.not_whole
            engine = made
        return rows_of(engine, Trainer(engine, optimizer, work, clip, local), start, setting)


def rows_of(engine: Engine, trainer: Trainer, start: Tensor, setting: RoundSetting) -> Tensor:
    shards, width = [Shard.load(samples(client), CPU) for client in range(3)], engine.capacity
    found = []
    for first in range(0, 3, width):
        some = np.arange(first, min(first + width, 3))
        joined = Shards.join([shards[client] for client in some])
        found.append(trainer.train(setting, start, some, joined).sent["row"])
    return torch.cat(found)
