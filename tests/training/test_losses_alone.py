"""Losses of a batch at other weights, without gradients: they leave no trace."""

from __future__ import annotations

import pytest
import torch
from reference_loops import IMAGES, block_of, images, module

from raysim.training import Engine, ParameterLayout, Saving, SequentialEngine
from raysim.training.losses import cross_entropy
from raysim.training.rows import RowsEngine

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["dropout", "batch_norm", "cnn"])
def test_losses_without_gradients_leave_everything_as_it_was(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        net = module(name)
        layout = ParameterLayout(net)
        start = layout.pack(net)
        engine = SequentialEngine(net, layout, cross_entropy, IMAGES, CPU)
        block = block_of([images(16)], [[torch.arange(8), torch.arange(8, 16)]], [3])
        found = []
        for looks in (False, True):
            engine.rows[0] = start
            engine.load(block)
            if looks:
                point = start[None] * 1.5
                assert torch.equal(engine.losses_at(point, 0, 1), engine.losses_at(point, 0, 1))
                assert not torch.equal(engine.losses_at(point, 0, 1), engine.losses_at(start[None], 0, 1))
            losses = [engine.gradients(step, 1).clone() for step in (0, 1)]
            found.append([*losses, engine.grad.clone(), engine.rows.clone()])
        assert all(map(torch.equal, *found))


@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn"])
def test_they_are_those_that_gradients_come_with(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        layout = ParameterLayout(module(name))
        start = layout.pack(module(name))
        engines: list[tuple[Engine, int]] = [
            (SequentialEngine(module(name), layout, cross_entropy, IMAGES, CPU), 1),
            (SequentialEngine(module(name), layout, cross_entropy, IMAGES, CPU, saving=Saving(accumulation=4)), 1),
            (RowsEngine(module(name), layout, cross_entropy, IMAGES, CPU, 3, 8), 3),
        ]
        for engine, k in engines:
            samples = [images(13, seed=i, weighted=True) for i in range(k)]
            engine.load(block_of(samples, [[torch.arange(8), torch.arange(8, 13)]] * k))
            point = torch.stack([start * (1 + 0.1 * i) for i in range(k)])
            engine.rows[:k] = start
            for step in (0, 1):
                alone = engine.losses_at(point, step, k)
                assert torch.equal(engine.rows[:k], start.expand(k, -1))
                engine.rows[:k] = point
                torch.testing.assert_close(alone, engine.gradients(step, k), rtol=1e-6, atol=0)
                engine.rows[:k] = start
