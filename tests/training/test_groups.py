"""Parameter groups against those of torch.optim, in every engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from plain_orders import orders
from torch import Tensor, nn

from raysim.config.client import AdamConfig, ClientConfig, OptimizerConfig, ParameterGroupConfig, SgdConfig
from raysim.data import DataInfo, Samples
from raysim.errors import ConfigError
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
from raysim.training.optimizers import clip_rows
from raysim.training.rows import RowsEngine

INFO = DataInfo("classification", (13,), "real", classes=4)
CPU = torch.device("cpu")
WORK = LocalWork(5, 2)
SIZES = [13, 11, 6]
LR = 0.05

OPTIMIZERS: dict[str, tuple[OptimizerConfig, Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SgdConfig(), lambda p: torch.optim.SGD(p, lr=LR)),
    "momentum": (
        SgdConfig(momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, weight_decay=0.1),
    ),
    "nesterov": (
        SgdConfig(momentum=0.8, nesterov=True, weight_decay=0.02),
        lambda p: torch.optim.SGD(p, lr=LR, momentum=0.8, nesterov=True, weight_decay=0.02),
    ),
    "adam": (AdamConfig(weight_decay=0.1), lambda p: torch.optim.Adam(p, lr=LR, weight_decay=0.1)),
    "adamw": (
        AdamConfig(name="adamw", weight_decay=0.2),
        lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.2),
    ),
}
GROUPS = (
    ParameterGroupConfig(match=("*.bias",), lr_scale=3.0, weight_decay=0.0, clip_norm=0.05),
    ParameterGroupConfig(match=("0.*",), lr_scale=0.0),
    ParameterGroupConfig(match=("2.*", "3.*"), lr_scale=0.5, weight_decay=0.3),
)


def module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Linear(13, 9), nn.Sigmoid(), nn.Linear(9, 7), nn.Linear(7, 4))


def samples(client: int) -> Samples:
    random = np.random.default_rng(client)
    x = random.standard_normal((SIZES[client], 13)).astype(np.float32)
    return Samples(x, random.integers(0, 4, SIZES[client]))


def local(c: Clients) -> Mapping[str, Tensor]:
    c.descend()
    return {"row": c.rows.clone()}


def trained(client: ClientConfig, engine_name: str) -> Tensor:
    """The rows of three clients after their local steps."""
    net = module()
    layout = ParameterLayout(net)
    start, optimizer = layout.pack(net), row_optimizer(client.optimizer, column_rates(client, layout))
    clip, engine = clip_of(client, layout), None
    with torch.random.fork_rng(devices=[]):
        if engine_name == "sequential":
            engine = SequentialEngine(net, layout, cross_entropy, INFO, CPU)
        else:
            compiled, update = engine_name == "compiled", LocalUpdate(optimizer, clip)
            engine = RowsEngine(net, layout, cross_entropy, INFO, CPU, 3, 5, compiled=compiled, update=update)
            assert not compiled or not engine.codes.not_whole
        return rows_of(engine, Trainer(engine, optimizer, WORK, clip, local), start)


def rows_of(engine: Engine, trainer: Trainer, start: Tensor) -> Tensor:
    shards, width = [Shard.load(samples(client), CPU) for client in range(3)], engine.capacity
    found = []
    for first in range(0, 3, width):
        some = np.arange(first, min(first + width, 3))
        joined = Shards.join([shards[client] for client in some])
        found.append(trainer.train(RoundSetting(1, 2, LR), start, some, joined).sent["row"])
    return torch.cat(found)


def plain(client: ClientConfig, optimizer: Callable[[Any], torch.optim.Optimizer], number: int) -> nn.Module:
    """A client's steps with torch's own groups and clipping."""
    model, mine = module(), samples(number)
    names = dict(model.named_parameters())
    biases = [p for name, p in names.items() if name.endswith("bias")]
    last = [names["2.weight"], names["3.weight"]]
    steps = optimizer([{"params": biases}, {"params": [names["0.weight"]]}, {"params": last}])
    for group, config in zip(steps.param_groups, client.groups, strict=True):
        group["lr"] = LR * config.lr_scale
        if config.weight_decay is not None:
            group["weight_decay"] = config.weight_decay
    for index in orders(1, 2, number, SIZES[number], WORK):
        steps.zero_grad()
        nn.functional.cross_entropy(model(torch.from_numpy(mine.x)[index]), torch.from_numpy(mine.y)[index]).backward()
        nn.utils.clip_grad_norm_(biases, 0.05)
        nn.utils.clip_grad_norm_([names["0.weight"], *last], 0.2)
        steps.step()
    return model


ENGINES = ["sequential", "rows"]
COMPILER = pytest.mark.skipif(not engine_choice.has_compiler(), reason="needs a C++ compiler")


def compiled_alone(*optimizers: str) -> list[Any]:
    """Every engine with every optimiser, compiled with these: a compilation takes seconds."""
    eager = [pytest.param(one, engine) for one in OPTIMIZERS for engine in ENGINES]
    return eager + [pytest.param(one, "compiled", marks=COMPILER) for one in optimizers]


@pytest.mark.parametrize(("optimizer", "engine"), compiled_alone("nesterov", "adamw"))
def test_groups_train_as_those_of_torch(optimizer: str, engine: str) -> None:
    config, made = OPTIMIZERS[optimizer]
    client = ClientConfig(optimizer=config, clip_norm=0.2, groups=GROUPS)
    rows, layout = trained(client, engine), ParameterLayout(module())
    for number in range(3):
        expected = layout.pack(plain(client, made, number))
        torch.testing.assert_close(rows[number], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("optimizer", "engine"), compiled_alone("adamw"))
def test_a_scale_of_zero_leaves_every_bit_in_place(optimizer: str, engine: str) -> None:
    frozen = ParameterGroupConfig(match=("0.*",), lr_scale=0)
    rows = trained(ClientConfig(optimizer=OPTIMIZERS[optimizer][0], groups=(frozen,)), engine)
    start, moved = module(), ParameterLayout(module()).views(rows)
    for name, parameter in start.named_parameters():
        same = torch.equal(moved[name], parameter.detach().expand_as(moved[name]))
        assert same == name.startswith("0."), name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_group_of_what_holds_anyway_changes_no_bit_and_none_costs_nothing(engine: str) -> None:
    neutral = ParameterGroupConfig(match=("*",))
    layout = ParameterLayout(module())
    assert column_rates(ClientConfig(groups=(neutral,)), layout) is None
    assert clip_of(ClientConfig(groups=(neutral,), clip_norm=0.3), layout) == 0.3
    assert row_optimizer(SgdConfig(), column_rates(ClientConfig(), layout)).plain
    assert torch.equal(trained(ClientConfig(groups=(neutral,)), engine), trained(ClientConfig(), engine))


def test_rows_of_any_number_are_clipped_to_the_same_bits() -> None:
    layout = ParameterLayout(module())
    clip = clip_of(ClientConfig(clip_norm=0.2, groups=GROUPS), layout)
    assert clip is not None
    grad = torch.randn((9, layout.trainable), generator=torch.Generator().manual_seed(1))
    whole = grad.clone()
    clip_rows(whole, clip)
    for k in range(1, 9):
        some = grad[:k].clone()
        clip_rows(some, clip)
        assert torch.equal(some, whole[:k])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (
            [{"match": ["*.gain"]}],
            r"client\.groups\.0\.match: '\*\.gain' matches no trainable parameter; they are",
        ),
        (
            [{"match": ["0.*"]}, {"match": ["*.bias", "nothing"]}],
            r"client\.groups\.1\.match: 'nothing' matches no trainable parameter",
        ),
        (
            [{"match": ["*"]}, {"match": ["0.*"]}],
            r"client\.groups\.1\.match: all parameters that 0\.\* matches are in an earlier group",
        ),
    ],
)
def test_a_glob_without_a_parameter_is_refused(groups: list[dict[str, Any]], message: str) -> None:
    client = ClientConfig.model_validate({"groups": groups})
    with pytest.raises(ConfigError, match=message):
        column_rates(client, ParameterLayout(module()))
