"""Federated averaging and federated SGD against plain loops, and algorithms of one's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from plain_orders import orders
from three_clients import CPU, INFO, SIZES, module, samples
from torch import nn

from raysim.aggregation import RunningSum, combine, mean
from raysim.algorithms import Algorithm, FedAvg, FedSgd, build_algorithm
from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.training import (
    LocalWork,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Shard,
    Shards,
    Trainer,
    row_optimizer,
)
from raysim.training.losses import cross_entropy

SETTING = RoundSetting(seed=1, round=1, lr=0.3)


def algorithm_of(values: dict[str, Any] | str) -> tuple[Algorithm, Experiment]:
    experiment = Experiment.parse({"algorithm": values, "client": {"batch_size": 5, "epochs": 2}})
    return build_algorithm(experiment.algorithm, ParameterLayout(module())), experiment


def federated_round(algorithm: Algorithm, experiment: Experiment, *, clip_norm: float | None = None) -> Any:
    """One round over all clients, weighted by their samples; the next model `[P]`."""
    layout, engine_module = ParameterLayout(module()), module()
    broadcast = layout.pack(engine_module)
    engine = SequentialEngine(engine_module, layout, cross_entropy, INFO, CPU)
    optimizer = algorithm.local_optimizer(experiment.client)
    work = algorithm.work(experiment.client)
    trainer = Trainer(engine, None if optimizer is None else row_optimizer(optimizer), work, clip_norm, algorithm.local)
    sums = []
    for client, size in enumerate(SIZES):
        running = RunningSum(1, algorithm.fields(), CPU)
        joined = Shards.join([Shard.load(samples(client), CPU)])
        sent = trainer.train(SETTING, broadcast, np.array([client]), joined).sent
        assert running.fold(np.array([client], dtype=np.int32), np.array([size / sum(SIZES)]), sent) == [None]
        sums.append(running.seal())
    model = broadcast.numpy()
    return algorithm.apply(model, algorithm.init(model), mean(combine(sums), algorithm.fields()))[0]


def losses(model: nn.Module, x: Any, y: Any) -> torch.Tensor:
    return F.cross_entropy(model(torch.as_tensor(x)), torch.as_tensor(y))


def test_fedsgd_is_one_gradient_step_on_the_pooled_data() -> None:
    algorithm, experiment = algorithm_of({"name": "fedsgd", "server_lr": 0.7})
    assert isinstance(algorithm, FedSgd)
    found = federated_round(algorithm, experiment)

    pooled, shards = module(), [samples(client) for client in range(len(SIZES))]
    x, y = np.concatenate([one.x for one in shards]), np.concatenate([one.y for one in shards])
    optimizer = torch.optim.SGD(pooled.parameters(), lr=0.7)
    losses(pooled, x, y).backward()
    optimizer.step()
    np.testing.assert_allclose(found, ParameterLayout(pooled).pack(pooled).numpy(), rtol=0, atol=1e-6)


def test_fedsgd_takes_one_full_batch_whatever_the_client_section_says() -> None:
    algorithm, _ = algorithm_of("fedsgd")
    client = Experiment.parse({"client": {"batch_size": 3, "epochs": 9, "steps": 4}}).client
    assert algorithm.work(client) == LocalWork(batch_size=None, epochs=1, steps=1)
    assert algorithm.local_optimizer(client) is None
    assert algorithm.server.lr == 0.1


def test_fedsgd_sends_clipped_gradients_where_clients_clip() -> None:
    algorithm, experiment = algorithm_of({"name": "fedsgd", "server_lr": 1.0})
    start = ParameterLayout(module()).pack(module()).numpy()
    step = federated_round(algorithm, experiment, clip_norm=0.01) - start
    assert 0 < np.linalg.norm(step) <= 0.01 * (1 + 1e-5)


@pytest.mark.parametrize("server_lr", [1.0, 0.4])
def test_fedavg_is_the_weighted_mean_of_what_the_clients_arrive_at(server_lr: float) -> None:
    algorithm, experiment = algorithm_of({"name": "fedavg", "server_lr": server_lr})
    assert isinstance(algorithm, FedAvg)
    found = federated_round(algorithm, experiment)

    start = ParameterLayout(module()).pack(module()).double().numpy()
    expected = start.copy()
    for client, size in enumerate(SIZES):
        local, mine = module(), samples(client)
        optimizer = torch.optim.SGD(local.parameters(), lr=SETTING.lr)
        work = algorithm.work(experiment.client)
        for index in orders(SETTING.seed, SETTING.round, client, size, work):
            optimizer.zero_grad()
            losses(local, mine.x[index.numpy()], mine.y[index.numpy()]).backward()
            optimizer.step()
        arrived = ParameterLayout(local).pack(local).double().numpy()
        expected += server_lr * size / sum(SIZES) * (arrived - start)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_fedavg_does_what_the_client_section_says() -> None:
    algorithm, _ = algorithm_of("fedavg")
    client = Experiment.parse({"client": {"batch_size": "full", "epochs": 3, "optimizer": "adam"}}).client
    assert algorithm.work(client) == LocalWork(None, 3, None)
    assert algorithm.local_optimizer(client) == client.optimizer
    client = Experiment.parse({"client": {"batch_size": 4, "steps": 6}}).client
    assert algorithm.work(client) == LocalWork(4, 1, 6)


OWN = """
from raysim.algorithms import Algorithm

class FedProx(Algorithm):
    paper = "Li et al. 2020"

    def __init__(self, config, layout, mu):
        super().__init__(config, layout)
        self.mu = mu

    def correct(self, grad, weights, b):
        grad += self.mu * (weights - b.broadcast[: b.trainable])

def function():
    pass
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own algorithm beside the configuration."""
    (tmp_path / "own_algorithms.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "own_algorithms", raising=False)


@pytest.mark.usefixtures("own")
def test_an_algorithm_of_ones_own_is_built_with_its_arguments_and_averages_by_itself() -> None:
    algorithm, experiment = algorithm_of({"name": "own_algorithms:FedProx", "args": {"mu": 0.0}, "server_lr": 0.5})
    plain, _ = algorithm_of({"name": "fedavg", "server_lr": 0.5})
    assert (type(algorithm).__name__, algorithm.server.lr) == ("FedProx", 0.5)
    np.testing.assert_array_equal(federated_round(algorithm, experiment), federated_round(plain, experiment))
    proximal, _ = algorithm_of({"name": "own_algorithms:FedProx", "args": {"mu": 1.0}, "server_lr": 0.5})
    assert not np.array_equal(federated_round(proximal, experiment), federated_round(plain, experiment))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("values", "line"),
    [
        ("own_algorithms:function", "algorithm.name: own_algorithms:function is not a subclass of"),
        ("collections:OrderedDict", "algorithm.name: collections:OrderedDict is not a subclass of"),
        ("own_algorithms:FedProxy", "algorithm.name: module 'own_algorithms' has no 'FedProxy'"),
        ("not_there_at_all:X", "algorithm.name: no module 'not_there_at_all'"),
        ("own_algorithms:FedProx", "algorithm.args: own_algorithms:FedProx: "),
        ({"name": "own_algorithms:FedProx", "args": {"nu": 1}}, "algorithm.args: own_algorithms:FedProx: "),
    ],
)
def test_a_bad_algorithm_is_one_line(values: Any, line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        algorithm_of(values)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
