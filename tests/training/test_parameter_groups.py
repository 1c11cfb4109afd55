"""Parameter groups against those of torch.optim, in every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from plain_orders import orders
from three_clients import ENGINES, LR, SIZES, WORK, compiled_alone, module, samples, trained
from torch import nn

from raysim.config.client import AdamConfig, ClientConfig, OptimizerConfig, ParameterGroupConfig, SgdConfig
from raysim.errors import ConfigError
from raysim.training import ParameterLayout, clip_of, column_rates, row_optimizer
from raysim.training.optimizers import clip_rows

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
    ParameterGroupConfig(match=("2.*",), lr_scale=0.5, weight_decay=0.3),
)


def plain(client: ClientConfig, optimizer: Callable[[Any], torch.optim.Optimizer], number: int) -> nn.Module:
    """A client's steps with torch's own groups and clipping."""
    model, mine = module(), samples(number)
    names = dict(model.named_parameters())
    biases = [p for name, p in names.items() if name.endswith("bias")]
    last = [names["2.weight"]]
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


@pytest.mark.parametrize(("optimizer", "engine"), compiled_alone(OPTIMIZERS, "nesterov", "adamw"))
def test_groups_train_as_those_of_torch(optimizer: str, engine: str) -> None:
    config, made = OPTIMIZERS[optimizer]
    client = ClientConfig(optimizer=config, clip_norm=0.2, groups=GROUPS)
    rows, layout = trained(client, engine), ParameterLayout(module())
    for number in range(3):
        expected = layout.pack(plain(client, made, number))
        torch.testing.assert_close(rows[number], expected, rtol=0, atol=2e-6)
        still = layout.views(rows)["0.weight"][number]
        assert torch.equal(still, module().get_parameter("0.weight").detach()), "a scale of 0 leaves every bit in place"


@pytest.mark.parametrize(("optimizer", "engine"), compiled_alone(OPTIMIZERS))
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
