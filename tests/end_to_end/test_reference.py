"""The whole path against plain torch loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import digits
from torch import nn
from torch.nn.functional import cross_entropy

from raysim import Experiment, Simulation, keyed

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(47, 5)).astype(np.float32)
Y = np.concatenate([np.arange(3), GENERATOR.integers(0, 3, 44)])


def network() -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    module = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return module


def relative_error(found: nn.Module, expected: nn.Module) -> float:
    a = torch.cat([p.detach().flatten() for p in found.parameters()])
    b = torch.cat([p.detach().flatten() for p in expected.parameters()])
    return float((a - b).norm() / b.norm())


def experiment(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(tmp_path, "data.holdout=0", "data.test=0", "data.partition=iid", "rounds=5", *overrides)


def test_fedavg_with_one_client_follows_a_plain_training_loop(tmp_path: Path) -> None:
    setting = experiment(
        tmp_path, "cohort=1", "data.partition.clients=1", "client.epochs=2",
        "client.optimizer={name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.01}",
    )  # fmt: skip
    with Simulation(setting, model=network(), data=(X, Y)) as simulation:
        simulation.run()
        found = simulation.model()
        shard = simulation._prepared.federation.shard(0)
    x, y = torch.tensor(shard.x), torch.tensor(shard.y)
    module = network()
    for round_number in range(1, 6):
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
        for epoch in range(2):
            key = keyed.bits(0, keyed.Purpose.BATCHES, round_number, 0, epoch, np.arange(len(y)))
            for batch in np.array_split(np.argsort(key), range(10, len(y), 10)):
                optimizer.zero_grad()
                cross_entropy(module(x[batch]), y[batch]).backward()
                optimizer.step()
    assert relative_error(found, module) < 1e-6


@pytest.mark.parametrize("partition", ["iid", "shards", "{name: quantity, exponent: 0.7}"])
def test_fedsgd_with_all_clients_is_gradient_descent_on_the_pooled_data(tmp_path: Path, partition: str) -> None:
    setting = experiment(
        tmp_path, f"data.partition={partition}", "data.partition.clients=5", "cohort=1.0",
        "algorithm={name: fedsgd, server_lr: 0.5}",
    )  # fmt: skip
    with Simulation(setting, model=network(), data=(X, Y)) as simulation:
        simulation.run()
        found = simulation.model()
    module, x, y = network(), torch.tensor(X), torch.tensor(Y)
    for _ in range(5):
        gradient = torch.autograd.grad(cross_entropy(module(x), y), list(module.parameters()))
        with torch.no_grad():
            for parameter, g in zip(module.parameters(), gradient, strict=True):
                parameter -= 0.5 * g
    assert relative_error(found, module) < 1e-6


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("uniform", lambda n, loss: np.ones(3)),
        ("samples", lambda n, loss: n),
        ("loss", lambda n, loss: loss),
        ("inverse_loss", lambda n, loss: 1 / loss),
        ("{name: explicit, table: {0: 0.6, 1: 0.4}}", lambda n, loss: np.array([0.6, 0.4, 0.0])),
    ],
)
def test_a_round_is_the_weighted_mean_of_what_each_client_alone_arrives_at(
    tmp_path: Path, weights: str, expected: object
) -> None:
    setting = experiment(
        tmp_path,
        "data.partition={name: quantity, clients: 3}",
        "cohort=3",
        "rounds=1",
        f"aggregation.weights={weights}",
    )
    with Simulation(setting, model=network(), data=(X, Y)) as simulation:
        (committed,) = simulation
        found, federation = simulation.model(), simulation._prepared.federation
    arrived, sizes, losses = [], [], []
    for client in range(3):
        shard = federation.shard(client)
        x, y, module = torch.tensor(shard.x), torch.tensor(shard.y), network()
        losses.append(cross_entropy(module(x), y).item())
        sizes.append(len(y))
        key = keyed.bits(0, keyed.Purpose.BATCHES, 1, client, 0, np.arange(len(y)))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        for batch in np.array_split(np.argsort(key), range(10, len(y), 10)):
            optimizer.zero_grad()
            cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()
        arrived.append(module)
    share = expected(np.array(sizes), np.array(losses))
    share = share / share.sum()
    np.testing.assert_allclose(committed.clients["weight"].to_numpy(), share, rtol=1e-6)
    module = network()
    with torch.no_grad():
        for target, *parts in zip(module.parameters(), *(m.parameters() for m in arrived), strict=True):
            target.copy_(sum(float(w) * part for w, part in zip(share, parts, strict=True)))
    assert relative_error(found, module) < 1e-6
