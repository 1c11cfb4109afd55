"""DiLoCo against loops of torch's own: AdamW on every client, SGD with Nesterov momentum on the server."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from plain_federation import CLASSES, FEATURES, Plain, Run, experiment_of
from torch import nn

LR, ROUNDS, STEPS, WARMUP, FLOOR = 0.03, 6, 4, 5, 0.2


def experiment(state: str) -> Any:
    return experiment_of(
        {"name": "diloco"},
        f"rounds={ROUNDS}",
        f"client.steps={STEPS}",
        f"client.optimizer={{name: adamw, lr: {LR}, weight_decay: 0.1, state: {state}}}",
        f"client.schedule={{name: steps, warmup: {WARMUP}, then: cosine, floor: {FLOOR}}}",
        "aggregation.weights=uniform",
    )


def factor(step: int) -> float:
    """A rise over the first steps, a cosine to the floor at the last."""
    if step < WARMUP:
        return (step + 1) / WARMUP
    progress = (step - WARMUP) / (ROUNDS * STEPS - 1 - WARMUP)
    return FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * progress)) / 2


def flat(model: nn.Linear) -> Any:
    found = np.zeros(32)
    found[: CLASSES * FEATURES] = model.weight.detach().numpy().ravel()
    found[16 : 16 + CLASSES] = model.bias.detach().numpy()
    return found


def put(model: nn.Linear, w: torch.Tensor) -> None:
    model.weight.data.copy_(w[: CLASSES * FEATURES].view(CLASSES, FEATURES))
    model.bias.data.copy_(w[16 : 16 + CLASSES])


def by_torch(run: Run, *, keep: bool) -> Any:
    plain = Plain(run)
    outer = nn.Parameter(torch.from_numpy(plain.w.copy()))
    server = torch.optim.SGD([outer], lr=0.7, momentum=0.9, nesterov=True)
    models = [nn.Linear(FEATURES, CLASSES) for _ in range(plain.population)]
    inner = [torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.1) for model in models]
    for number in range(1, ROUNDS + 1):
        cohort = list(plain.cohort(number))
        delta = torch.zeros(32, dtype=torch.float64)
        for client, p in cohort:
            put(models[client], outer.detach())
            if not keep:
                inner[client] = torch.optim.AdamW(models[client].parameters(), lr=LR, weight_decay=0.1)
            samples = run.federation.shard(client)
            for step, index in enumerate(plain.batches(number, client)):
                inner[client].param_groups[0]["lr"] = LR * factor((number - 1) * STEPS + step)
                output = models[client](torch.from_numpy(samples.x[index]))
                inner[client].zero_grad()
                nn.functional.cross_entropy(output, torch.from_numpy(samples.y[index])).backward()
                inner[client].step()
            delta += p * (torch.from_numpy(flat(models[client])) - outer.detach())
        outer.grad = -delta
        server.step()
        outer.data.copy_(outer.data.float())  # the model is float32
    return outer.detach().numpy()


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("state", ["keep", "reset"])
def test_rounds_are_those_of_two_nested_optimisers_of_torch(state: str, rows: int | None) -> None:
    run = Run(experiment(state), rows=rows)
    with torch.random.fork_rng(devices=[]):
        expected = by_torch(Run(experiment(state)), keep=state == "keep")
    np.testing.assert_allclose(run.rounds(ROUNDS), expected, rtol=0, atol=1e-6)


def test_with_a_plain_server_it_is_federated_averaging() -> None:
    plain = Run(experiment("keep").updated(["algorithm=fedavg"])).rounds(4)
    neutral = ["algorithm.server_lr=1", "algorithm.server_momentum=0"]
    np.testing.assert_array_equal(Run(experiment("keep").updated(neutral)).rounds(4), plain)
