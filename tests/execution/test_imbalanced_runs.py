"""Whole runs with options for classes of unequal size: rows as one client at a time, a plain loop, one-line errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from federations import digits
from torch import nn

from raysim import Experiment, Simulation
from raysim.data import prepare
from raysim.errors import ConfigError
from raysim.training import BatchPlan, LocalWork, Resampling, Shard, Shards

OPTIONS = {
    "fedlc, focal, inverse, resampled": [
        "training.logits=fedlc", "training.loss=focal", "training.class_weights=inverse", "client.resampling=balanced",
    ],
    "adjusted, own weights": [
        "training.logits=adjusted", "training.class_weights={name: effective, scope: client}",
        "client.resampling={name: capped, ratio: 2}", "algorithm=scaffold",
    ],
}  # fmt: skip


def trained(experiment: Experiment) -> np.ndarray:
    with Simulation(experiment) as simulation:
        for _ in simulation:
            pass
        return nn.utils.parameters_to_vector(simulation.model().parameters()).detach().numpy()


@pytest.mark.parametrize("option", OPTIONS)
def test_rows_come_to_the_model_of_one_client_at_a_time(tmp_path: Path, option: str) -> None:
    shared = ["rounds=2", "evaluation.every=0", "client.optimizer.lr=0.05"]
    plain = trained(digits(tmp_path / "plain", *shared))
    one = trained(digits(tmp_path / "one", *shared, *OPTIONS[option]))
    rows = trained(digits(tmp_path / "rows", *shared, *OPTIONS[option], "training.engine=rows", "training.rows=3"))
    np.testing.assert_allclose(rows, one, rtol=1e-4, atol=1e-5)
    assert np.abs(one - plain).max() > 1e-2


def test_a_client_alone_with_its_counts_is_a_plain_torch_loop(tmp_path: Path) -> None:
    experiment = digits(
        tmp_path, "rounds=1", "cohort=1", "data.partition={name: iid, clients: 1}", "data.holdout=0",
        "client.batch_size=full", "client.steps=3", "training.class_weights=inverse", "training.logits=adjusted",
        "evaluation.every=0", "data.imbalance={ratio: 10}",
    )  # fmt: skip
    with Simulation(experiment) as simulation:
        model = simulation.model()
        for _ in simulation:
            pass
        found = nn.utils.parameters_to_vector(simulation.model().parameters()).detach()
    shard = prepare(experiment.data, experiment.data_seed).open().shard(0)
    x, y = torch.from_numpy(np.array(shard.x)), torch.from_numpy(np.array(shard.y)).long()
    counts = torch.bincount(y, minlength=10).double()
    weights, prior = (len(y) / (10 * counts)).float(), (counts / len(y)).log().float()
    for _ in range(3):
        log_p = torch.log_softmax(model(x) + prior, 1)
        loss = -(weights[y] * log_p.gather(1, y[:, None])[:, 0]).mean()
        for parameter, grad in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            parameter.data -= 0.1 * grad
    expected = nn.utils.parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_apfl_on_resampled_epochs_trains_its_global_model_as_fedavg_does(tmp_path: Path) -> None:
    shared = ["rounds=2", "evaluation.every=0", "client.epochs=2", "client.resampling=balanced"]
    fedavg, apfl = (trained(digits(tmp_path / name, *shared, f"algorithm={name}")) for name in ("fedavg", "apfl"))
    np.testing.assert_array_equal(apfl, fedavg)


def test_pfedme_takes_its_inner_steps_on_one_resampled_batch_as_a_plain_loop_does(tmp_path: Path) -> None:
    strength, local_lr, inner, lr = 4.0, 0.2, 3, 0.1
    experiment = digits(
        tmp_path, "rounds=1", "cohort=1", "data.partition={name: iid, clients: 1}", "evaluation.every=0",
        f"algorithm={{name: pfedme, strength: {strength}, local_lr: {local_lr}, inner_steps: {inner}}}",
        "client.batch_size=100", "client.epochs=2", "client.resampling=balanced", "data.imbalance={ratio: 10}",
    )  # fmt: skip
    with Simulation(experiment) as simulation:
        model = simulation.model()
        for _ in simulation:
            pass
        found = nn.utils.parameters_to_vector(simulation.model().parameters()).detach()
    federation = prepare(experiment.data, experiment.data_seed).open()
    client, work = np.array([0]), LocalWork(100, 2)
    shards = Shards.join([Shard.load(federation.shard(0), torch.device("cpu"))])
    plan = BatchPlan.draw(experiment.seed, 1, client, shards.count, work)
    rule = Resampling.of(experiment.client.resampling, federation.info)
    assert rule is not None
    batches = rule(plan, experiment.seed, 1, client, shards, work).index[:, 0]
    local = [parameter.detach().clone() for parameter in model.parameters()]
    for index, size in zip(batches, plan.count[:, 0], strict=True):
        x, y = shards.pool.x[index[:size]].float(), shards.pool.y[index[:size]].long()
        for _ in range(inner):
            loss = nn.functional.cross_entropy(model(x), y)
            grads = torch.autograd.grad(loss, list(model.parameters()))
            for theta, w, grad in zip(model.parameters(), local, grads, strict=True):
                theta.data -= lr * (grad + strength * (theta.data - w))
        for theta, w in zip(model.parameters(), local, strict=True):
            w -= local_lr * strength * (w - theta.data)
    torch.testing.assert_close(found, torch.cat([w.flatten() for w in local]), rtol=1e-5, atol=1e-6)


def test_all_clients_labels_must_have_been_counted(tmp_path: Path) -> None:
    experiment = digits(tmp_path, "training.logits=adjusted", "data.label_histograms=false")
    with pytest.raises(ConfigError, match=r"logits looks at .* which were not counted; set data\.label_histograms"):
        Simulation(experiment)
    own = digits(
        tmp_path, "rounds=1", "training.class_weights={name: inverse, scope: client}", "data.label_histograms=false"
    )
    counted = own.updated(["data.label_histograms=true"])
    np.testing.assert_array_equal(trained(own), trained(counted))
