"""MOON against a plain torch loop after the paper's algorithm 1."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from federations import digits
from plain_federation import Plain, Run, experiment_of
from torch import nn

from raysim.execution.preparation.prepare import prepare_job
from raysim.training import FeatureLoss, ParameterLayout
from raysim.training.features import FeatureTerm

ROUNDS = 4


def test_moon_follows_algorithm_1_of_the_paper() -> None:
    mu, tau = 2.0, 0.5
    run = Run(experiment_of({"name": "moon", "mu": mu, "temperature": tau}, "model={name: mlp, hidden: [6]}"))
    plain = Plain(run)
    net = run.executor.job.build_module(run.federation.info)
    layout, sim = ParameterLayout(net), nn.CosineSimilarity()

    def features(one: nn.Module, x: torch.Tensor) -> torch.Tensor:
        assert isinstance(one, nn.Sequential)
        hidden: torch.Tensor = one[:-1](x)
        return hidden

    previous: dict[int, nn.Module] = {}
    for number in range(1, ROUNDS + 1):
        arrived = torch.zeros(layout.size, dtype=torch.float64)
        for client, p in plain.cohort(number):
            y, shard = copy.deepcopy(net), run.federation.shard(client)
            for index in plain.batches(number, client):
                x, target = torch.from_numpy(shard.x[index]), torch.from_numpy(shard.y[index])
                z = features(y, x)
                near = torch.exp(sim(z, features(net, x).detach()) / tau)
                far = torch.exp(sim(z, features(previous.get(client, net), x).detach()) / tau)
                loss = nn.functional.cross_entropy(y(x), target) - mu * torch.log(near / (near + far)).mean()
                gradients = torch.autograd.grad(loss, list(y.parameters()))
                with torch.no_grad():
                    for weight, gradient in zip(y.parameters(), gradients, strict=True):
                        weight -= plain.lr * gradient
            previous[client] = y
            arrived += p * layout.pack(y).double()
        layout.unpack(arrived.float(), net)
    found = torch.from_numpy(run.rounds(ROUNDS))
    torch.testing.assert_close(found, layout.pack(net), rtol=0, atol=3e-6)
    drifted = Run(experiment_of("fedavg", "model={name: mlp, hidden: [6]}"))
    assert not torch.allclose(torch.from_numpy(drifted.rounds(ROUNDS)), found, atol=1e-3)


def test_where_it_would_be_compiled_it_trains_in_rows_that_are_not_and_says_so(tmp_path: Path) -> None:
    rows = ("training.engine=rows", "training.rows=2", "training.compile=true")
    chosen = prepare_job(digits(tmp_path, "algorithm=moon", *rows)).engine
    assert (chosen.engine.name, chosen.engine.compiled) == ("rows", False)
    assert chosen.uncompiled
    assert chosen.reason == (
        "rows as configured, not compiled: a loss that compares representations of several models is not compiled"
    )


def test_a_layer_that_the_forward_pass_does_not_use_is_an_error() -> None:
    net = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    term = FeatureTerm(net, FeatureLoss("unused", 0, lambda features, others: features.sum(dim=1)))
    net["used"](torch.zeros(1, 2))
    with pytest.raises(ValueError, match="does not go through the layer"):
        term.penalty(torch.zeros(1, 2), [])
