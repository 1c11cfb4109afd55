"""Losses for classes of unequal size: the papers' formulas as plain loops, and the same result from every engine."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from three_clients import COMPILER, CPU, INFO, WORK, local, module
from torch import Tensor

from raysim.config.client import SgdConfig
from raysim.config.training import TrainingConfig
from raysim.data import DataInfo, Samples
from raysim.errors import ConfigError
from raysim.training import (
    BalancedLoss,
    BatchPlan,
    BlockInputs,
    Engine,
    LocalUpdate,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Shard,
    Shards,
    Trainer,
    resolve_client_loss,
    row_optimizer,
)
from raysim.training.losses import cross_entropy, focal
from raysim.training.rows import RowsEngine

BINARY = DataInfo("classification", (6,), "real", classes=2)
SETTING = RoundSetting(seed=3, round=2, lr=0.1)
COUNTS = np.array([[8, 3, 0, 1], [2, 2, 2, 2], [0, 0, 7, 0]])

OPTIONS: dict[str, dict[str, Any]] = {
    "inverse": {"class_weights": "inverse"},
    "own effective": {"class_weights": {"name": "effective", "beta": 0.9, "scope": "client"}},
    "explicit": {"class_weights": {"name": "explicit", "table": {1: 2.0, 2: 0.5, 3: 0.0}}},
    "focal": {"loss": "focal", "focal_gamma": 1.5},
    "adjusted": {"logits": {"name": "adjusted", "tau": 0.7}},
    "fedlc": {"logits": {"name": "fedlc", "tau": 0.8}},
    "fedrs": {"logits": {"name": "fedrs", "alpha": 0.3}},
    "all of it": {"loss": "focal", "class_weights": "inverse", "logits": {"name": "fedlc", "tau": 0.5}},
}


def plain(options: dict[str, Any], logits: list[float], label: int, own: list[int], everybody: list[int]) -> float:
    """One sample's loss, from the papers."""
    training = TrainingConfig.model_validate(options)
    z = list(logits)
    for c in range(len(z)):
        if training.logits.name == "adjusted":
            z[c] += training.logits.tau * math.log(everybody[c] / sum(everybody))
        if training.logits.name == "fedlc":
            z[c] -= training.logits.tau * (own[c] ** -0.25 if own[c] else 100.0)
        if training.logits.name == "fedrs" and not own[c]:
            z[c] *= training.logits.alpha
    p = math.exp(z[label]) / sum(math.exp(v) for v in z)
    loss = -math.log(p) * ((1 - p) ** training.focal_gamma if training.loss == "focal" else 1.0)
    weights = training.class_weights
    if weights.name == "explicit":
        return loss * weights.table.get(label, weights.default)
    if weights.name in ("inverse", "effective"):
        n = own if weights.scope == "client" else everybody
        size = n if weights.name == "inverse" else [(1 - weights.beta**m) / (1 - weights.beta) for m in n]
        mean = sum(m / s for m, s in zip(n, size, strict=True) if m) / sum(n)
        return loss / size[label] / mean
    return loss


@pytest.mark.parametrize("option", OPTIONS)
def test_losses_are_what_the_papers_say(option: str) -> None:
    loss = resolve_client_loss(TrainingConfig.model_validate(OPTIONS[option]), INFO)
    output = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    everybody = COUNTS.sum(0)
    for own in COUNTS:
        target = torch.from_numpy(np.resize(np.flatnonzero(own), 9))
        if isinstance(loss, BalancedLoss):
            (context,) = loss.context(own[None], everybody)
            assert context.shape == loss.shape
            found = loss(output, target, context)
        else:
            found = loss(output, target)
        expected = [
            plain(OPTIONS[option], z, y, own.tolist(), everybody.tolist())
            for z, y in zip(output.tolist(), target.tolist(), strict=True)
        ]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_inverse_weights_are_scikit_learns_balanced_ones() -> None:
    loss = resolve_client_loss(TrainingConfig(class_weights={"name": "inverse"}), INFO)
    assert isinstance(loss, BalancedLoss)
    everybody = COUNTS.sum(0)
    labels = np.repeat(np.arange(4), everybody)
    found = loss.context(COUNTS, everybody)[:, 0]
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(found.numpy(), np.tile(expected, (3, 1)), rtol=1e-6)


def test_a_focal_loss_has_a_slope_where_a_sample_is_certain() -> None:
    output = torch.tensor([[200.0, 0.0], [0.0, 0.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(focal(output, torch.tensor([0, 0]), gamma=0.5).sum(), output)
    assert slope[0].abs().max() == 0
    assert slope.isfinite().all()
    np.testing.assert_allclose(
        focal(output, torch.tensor([1, 0]), gamma=0.0).detach(),
        cross_entropy(output, torch.tensor([1, 0])).detach(),
        rtol=1e-6,
    )


def test_without_options_it_is_the_loss_itself() -> None:
    assert resolve_client_loss(TrainingConfig(), INFO) is cross_entropy


@cache
def shards() -> list[Samples]:
    random, found = np.random.default_rng(0), []
    for own in COUNTS:
        y = random.permutation(np.repeat(np.arange(4), own))
        found.append(Samples(random.normal(size=(len(y), 13)).astype(np.float32), y))
    return found


def trained(engine: Engine, context: Tensor, clients: list[int]) -> Tensor:
    trainer = Trainer(engine, row_optimizer(SgdConfig()), WORK, None, local)
    joined = Shards.join([Shard.load(shards()[client], CPU) for client in clients])
    broadcast = ParameterLayout(module()).pack(module())
    ids = np.array(clients)
    return trainer.train(SETTING, broadcast, ids, joined, BlockInputs(context=context[ids])).sent["row"]


@pytest.mark.parametrize("option", ["inverse", "own effective", "adjusted", "fedlc", "fedrs", "all of it"])
def test_every_engine_trains_as_a_plain_loop_does(option: str) -> None:
    loss = resolve_client_loss(TrainingConfig.model_validate(OPTIONS[option]), INFO)
    assert isinstance(loss, BalancedLoss)
    context = loss.context(COUNTS, COUNTS.sum(0))
    layout = ParameterLayout(module())
    sequential = SequentialEngine(module(), layout, loss, INFO, CPU)
    rows = RowsEngine(module(), layout, loss, INFO, CPU, 3, 5)
    together = trained(rows, context, [0, 1, 2])
    for client, samples in enumerate(shards()):
        model, own = module(), COUNTS[client]
        plan = BatchPlan.draw(3, 2, np.array([client]), np.array([len(samples)]), WORK)
        for index, count in zip(plan.index[:, 0], plan.count[:, 0], strict=True):
            x, y = torch.from_numpy(samples.x)[index[:count]], torch.from_numpy(samples.y)[index[:count]]
            elements = loss(model(x), y, loss.context(own[None], COUNTS.sum(0))[0])
            for parameter, grad in zip(
                model.parameters(), torch.autograd.grad(elements.mean(), list(model.parameters())), strict=True
            ):
                parameter.data -= SETTING.lr * grad
        expected = layout.pack(model)
        for found in (together[client], trained(sequential, context, [client])[0]):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(trained(rows, context, [client])[0], together[client])  # whoever is beside it


@COMPILER
def test_compiled_steps_are_told_the_same() -> None:
    loss = resolve_client_loss(TrainingConfig.model_validate(OPTIONS["all of it"]), INFO)
    assert isinstance(loss, BalancedLoss)
    context = loss.context(COUNTS, COUNTS.sum(0))
    layout = ParameterLayout(module())
    update = LocalUpdate(row_optimizer(SgdConfig()), None)
    rows = RowsEngine(module(), layout, loss, INFO, CPU, 3, 5, compiled=True, update=update)
    assert rows.codes.all
    assert not rows.codes.not_whole
    trainer = Trainer(rows, update.optimizer, WORK, None, local)
    joined = Shards.join([Shard.load(samples, CPU) for samples in shards()])
    found = trainer.train(SETTING, layout.pack(module()), np.arange(3), joined, BlockInputs(context=context)).sent[
        "row"
    ]
    sequential = SequentialEngine(module(), layout, loss, INFO, CPU)
    for client in range(3):
        np.testing.assert_allclose(found[client], trained(sequential, context, [client])[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "info", "line"),
    [
        ({"class_weights": "inverse"}, DataInfo("regression", (6,), "real"), "class_weights: inverse is for samples"),
        (
            {"logits": "fedlc"},
            DataInfo("classification", (5,), "tokens", (5,), classes=3, vocabulary=3),
            "logits: fedlc is for samples with one class each",
        ),
        ({"logits": "fedrs", "loss": "binary_cross_entropy"}, BINARY, "logits: fedrs corrects a logit a class"),
        (
            {"class_weights": {"name": "explicit", "table": {4: 2.0}}},
            INFO,
            r"class_weights\.table: there is no class 4; classes are 0 to 3",
        ),
    ],
)
def test_what_does_not_suit_is_one_line(options: dict[str, Any], info: DataInfo, line: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.{line}"):
        resolve_client_loss(TrainingConfig.model_validate(options), info)
