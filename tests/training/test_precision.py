"""bfloat16: what autocast computes, on both engines, with weights and updates in float32."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference_loops import IMAGES, images, module
from torch import Tensor

from raysim.config.client import SgdConfig
from raysim.training import (
    BatchPlan,
    Clients,
    EngineChoice,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    Trainer,
    build_engine,
    row_optimizer,
)
from raysim.training.losses import cross_entropy

SETTING = RoundSetting(seed=0, round=1, lr=0.1)
WORK = LocalWork(4)
CLIENTS = np.array([3, 8, 1])
SAMPLES = [images(9, seed=1), images(8, seed=2), images(6, seed=3)]


class Plain:
    def local(self, c: Clients) -> dict[str, Tensor]:
        c.descend()
        return {"row": c.rows.clone()}


def trained(name: str, choice: EngineChoice, clients: slice = slice(None)) -> Tensor:
    start = module(name)
    layout = ParameterLayout(start)
    broadcast = layout.pack(start)
    engine = build_engine(choice, start, layout, cross_entropy, IMAGES, WORK)
    trainer = Trainer(engine, row_optimizer(SgdConfig()), WORK, None, Plain().local)
    shards = Shards.join([Shard.load(one, torch.device("cpu")) for one in SAMPLES[clients]])
    with torch.random.fork_rng(devices=[]):
        return trainer.train(SETTING, broadcast, CLIENTS[clients], shards).sent["row"]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_one_client_follows_a_plain_autocast_loop(name: str) -> None:
    start = module(name)
    model, samples = copy.deepcopy(start).train(), SAMPLES[0]
    plan = BatchPlan.draw(SETTING.seed, SETTING.round, CLIENTS[:1], np.array([len(samples)]), WORK)
    for step, size in enumerate(plan.count[:, 0].tolist()):
        index = plan.index[step, 0, :size]
        x = torch.from_numpy(samples.x[index]).float() / 255
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            output = model(x)
        loss = F.cross_entropy(output.float(), torch.from_numpy(samples.y[index]))
        for parameter, grad in zip(
            model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True
        ):
            parameter.data -= SETTING.lr * grad
    found = trained(name, EngineChoice("sequential", precision="bf16"), slice(0, 1))
    torch.testing.assert_close(found[0], ParameterLayout(model).pack(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "mlp"])
def test_rows_are_near_one_client_at_a_time_and_k_decides_nothing(name: str) -> None:
    rows = trained(name, EngineChoice("rows", 3, precision="bf16"))
    in_full = trained(name, EngineChoice("rows", 3))
    assert not torch.equal(rows, in_full)
    start = ParameterLayout(module(name)).pack(module(name))
    for i in range(3):
        one = slice(i, i + 1)
        assert torch.equal(trained(name, EngineChoice("rows", 1, precision="bf16"), one)[0], rows[i])
        alone = trained(name, EngineChoice("sequential", precision="bf16"), one)[0]
        # Products are rounded to 8 bits in both, but not in the same places.
        assert (rows[i] - alone).norm() <= 0.02 * (alone - start).norm()
