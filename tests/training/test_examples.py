"""Gradients of samples, clipped one by one and made noisy: against a plain loop, in both engines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysim import keyed
from raysim.config.example_privacy import batch_bound, poisson_tail
from raysim.data import DataInfo, Samples
from raysim.training import (
    BlockInputs,
    Clients,
    Engine,
    EngineChoice,
    ExamplePrivacy,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    Shard,
    Shards,
    Trainer,
    UnprotectedError,
    build_engine,
    row_optimizer,
    torch_threads,
)
from raysim.training.examples import poisson_plan
from raysim.training.losses import cross_entropy
from tests.training.reference_loops import IMAGES, images, module

SETTING = RoundSetting(seed=3, round=2, lr=0.05)
WORK = LocalWork(batch_size=5, steps=4, poisson=batch_bound(5))
PRIVACY = ExamplePrivacy(clip=0.6, noise_multiplier=0.7, batch_size=5)
CLIENTS, SIZES = np.array([4, 1, 9]), (23, 12, 3)
ENGINE = pytest.mark.parametrize("engine", ["sequential", "rows"])


def engine_of(
    name: str, model: nn.Module, rows: int = 3, privacy: ExamplePrivacy = PRIVACY, info: DataInfo = IMAGES
) -> Engine:
    choice = EngineChoice("rows", rows=rows) if name == "rows" else EngineChoice("sequential")
    with torch_threads(1):
        return build_engine(choice, model, ParameterLayout(model), cross_entropy, info, WORK, privacy=privacy)


def trained(
    engine: Engine, broadcast: Tensor, samples: Sequence[Samples], clients: np.ndarray = CLIENTS
) -> tuple[Tensor, np.ndarray]:
    """Updates `[k, P]` and losses of clients, in blocks of as many as the engine takes."""
    trainer = Trainer(
        engine, row_optimizer(SETTING.optimizer), WORK, None, lambda c: (c.descend(), {"u": c.update()})[1]
    )
    shards, found, losses = [Shard.load(one, torch.device("cpu")) for one in samples], [], []
    with torch_threads(1):
        for first in range(0, len(clients), engine.capacity):
            part = slice(first, first + engine.capacity)
            result = trainer.train(SETTING, broadcast, clients[part], Shards.join(shards[part]))
            found.append(result.sent["u"].clone())
            losses.append(result.loss)
    return torch.cat(found), np.concatenate(losses)


def plain(model: nn.Module, samples: Samples, client: int, privacy: ExamplePrivacy) -> tuple[nn.Module, float]:
    """DP-SGD written out: keyed batches, one backward pass a sample, keyed noise over all parameters in a row."""
    n, losses = len(samples), []
    key = int(keyed.integers(3, keyed.Purpose.EXAMPLE_NOISE, 2, client))
    expected = min(privacy.batch_size, n)
    for step in range(4):
        draws = keyed.uniform(3, keyed.Purpose.EXAMPLES, 2, client, step, np.arange(n))
        total, loss_sum = [torch.zeros_like(p, dtype=torch.float64) for p in model.parameters()], 0.0
        for i in np.flatnonzero(draws < min(1, privacy.batch_size / n)):
            x = torch.from_numpy(samples.x[i : i + 1]).float() / 255
            loss = F.cross_entropy(model(x), torch.from_numpy(samples.y[i : i + 1]))
            weight = 1.0 if samples.weight is None else float(samples.weight[i])
            grads = torch.autograd.grad(weight * loss, list(model.parameters()))
            norm = float(torch.sqrt(sum((g.double() ** 2).sum() for g in grads)))
            for one, g in zip(total, grads, strict=True):
                one += g.double() * min(1.0, privacy.clip / norm)
            loss_sum += weight * float(loss.detach())
        noise = keyed.generator(key, keyed.Purpose.EXAMPLE_NOISE, step).standard_normal(sum(t.numel() for t in total))
        noise, taken = torch.from_numpy(noise * privacy.noise_multiplier * privacy.clip), 0
        with torch.no_grad():
            for p, one in zip(model.parameters(), total, strict=True):
                one += noise[taken : taken + one.numel()].view_as(one)
                taken += one.numel()
                p -= 0.05 * (one / expected).float()
        losses.append(loss_sum / expected)
    return model, float(np.mean(losses))


@ENGINE
@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("weighted", [False, True])
def test_training_is_that_of_a_plain_loop_over_samples(engine: str, name: str, weighted: bool) -> None:
    samples = [images(size, seed=size, weighted=weighted) for size in SIZES]
    layout = ParameterLayout(module(name))
    broadcast = layout.pack(module(name))
    updates, losses = trained(engine_of(engine, module(name)), broadcast, samples)
    for i, client in enumerate(CLIENTS.tolist()):
        model, loss = plain(module(name), samples[i], client, PRIVACY)
        torch.testing.assert_close(broadcast + updates[i], layout.pack(model), rtol=1e-6, atol=1e-6)
        assert losses[i] == pytest.approx(loss, rel=1e-5)
        assert updates[i].abs().max() > 0.01


def test_rows_have_the_bits_of_their_client_alone_and_fill_batches_up_with_nothing() -> None:
    samples, broadcast = [images(size, seed=size) for size in SIZES], ParameterLayout(module("mlp")).pack(module("mlp"))
    together = trained(engine_of("rows", module("mlp"), 3), broadcast, samples)[0]
    assert torch.equal(together, trained(engine_of("rows", module("mlp"), 2), broadcast, samples)[0])
    alone = [
        trained(engine_of("rows", module("mlp"), 1), broadcast, [s], CLIENTS[i : i + 1])[0]
        for i, s in enumerate(samples)
    ]
    assert torch.equal(together, torch.cat(alone))


@ENGINE
def test_no_sample_moves_a_client_further_than_the_clip(engine: str) -> None:
    privacy = ExamplePrivacy(0.6, 0.0, 5)
    broadcast = ParameterLayout(module("mlp")).pack(module("mlp"))
    mine, other = images(12, seed=1), images(12, seed=1)
    other.x[5], other.y[5] = 255 - other.x[5], (other.y[5] + 1) % 10
    made = engine_of(engine, module("mlp"), privacy=privacy)
    trainer = Trainer(made, row_optimizer(SETTING.optimizer), LocalWork(5, steps=1, poisson=WORK.poisson), None,
                      lambda c: (c.descend(), {"u": c.update()})[1])  # fmt: skip
    furthest = 0.0
    with torch_threads(1):
        for client in range(20):
            both = []
            for samples in (mine, other):
                shards = Shards.join([Shard.load(samples, torch.device("cpu"))])
                both.append(trainer.train(SETTING, broadcast, np.array([client]), shards).sent["u"].double().clone())
            furthest = max(furthest, float((both[0] - both[1]).norm()))
    assert 0.3 * 2 * 0.6 / 5 * 0.05 < furthest <= 2 * 0.6 / 5 * 0.05 * (1 + 1e-6)


@ENGINE
def test_a_sample_without_a_finite_gradient_adds_nothing(engine: str) -> None:
    info = DataInfo("classification", (1, 8, 8), "real", classes=10)
    sound = images(8, seed=2)
    x = sound.x.astype(np.float32) / 255
    broken = x.copy()
    broken[3] = np.inf
    privacy = ExamplePrivacy(0.6, 0.3, 100)  # every sample in every batch
    broadcast = ParameterLayout(module("mlp")).pack(module("mlp"))
    with_it, losses = trained(
        engine_of(engine, module("mlp"), privacy=privacy, info=info), broadcast, [Samples(broken, sound.y)], CLIENTS[:1]
    )
    assert torch.isfinite(with_it).all()
    assert np.isfinite(losses).all()


def test_noise_has_its_scale_on_every_parameter_and_none_on_padding() -> None:
    layout, privacy = ParameterLayout(module("mlp")), ExamplePrivacy(2.0, 1.5, 5)
    broadcast = layout.pack(module("mlp"))
    noisy, clear = (
        trained(engine_of("sequential", module("mlp"), privacy=one), broadcast, [images(5, seed=1)], CLIENTS[:1])[0]
        for one in (privacy, ExamplePrivacy(2.0, 0.0, 5))
    )
    # Four steps whose sums have noise of 1.5 · 2; clipping bounds what the noise does to later gradients.
    difference = ((noisy - clear)[0] / 0.05 * 5).double()
    used = torch.cat([torch.arange(s.start, s.start + s.size) for s in layout.parameters])
    assert float(difference[used].std()) == pytest.approx(np.sqrt(4) * 3.0, rel=0.08)
    padding = torch.ones(layout.size, dtype=torch.bool)
    padding[used] = False
    assert padding.any()
    assert not noisy[0][padding].any()


def test_batches_are_poisson_and_a_matter_of_the_client_alone() -> None:
    clients, samples = np.arange(40), np.full(40, 60)
    work = LocalWork(batch_size=12, steps=30, poisson=batch_bound(12))
    plan = poisson_plan(7, 3, clients, samples, work)
    assert plan.count.mean() == pytest.approx(12, rel=0.03)
    assert plan.count.var() == pytest.approx(60 * 0.2 * 0.8, rel=0.1)
    drawn = np.zeros(60)
    for s, i in np.ndindex(30, 40):
        mine = plan.index[s, i, : plan.count[s, i]]
        assert len(set(mine.tolist())) == len(mine)
        drawn[mine] += 1
    assert drawn.std() < 2 * np.sqrt(1200 * 0.2 * 0.8)
    alone = poisson_plan(7, 3, clients[5:6], samples[5:6], work)
    assert np.array_equal(alone.index[:, 0], plan.index[:, 5])
    assert not np.array_equal(poisson_plan(7, 4, clients[5:6], samples[5:6], work).index, alone.index)
    small = poisson_plan(7, 3, clients[:1], np.array([4]), work)
    assert np.array_equal(small.count[:, 0], np.full(30, 4))  # fewer samples than a batch: all of them


def test_a_batch_beyond_the_bound_keeps_some_of_its_samples_and_empty_ones_happen() -> None:
    clients, samples = np.arange(300), np.full(300, 50)
    drawn, cut = (poisson_plan(1, 1, clients, samples, LocalWork(2, steps=1, poisson=most)) for most in (20, 3))
    assert (drawn.count == 0).any()
    assert drawn.count.max() > 3
    assert np.array_equal(cut.count, np.minimum(drawn.count, 3))
    for i in range(300):
        kept, all_ = cut.index[0, i, : cut.count[0, i]], drawn.index[0, i, : drawn.count[0, i]]
        assert np.array_equal(kept, all_[: len(kept)])


def test_the_bound_is_the_smallest_that_is_hardly_ever_exceeded() -> None:
    for expected in (1, 10, 64):
        most = batch_bound(expected)
        assert poisson_tail(expected, most) <= 2.0**-40 < poisson_tail(expected, most - 1)
    assert poisson_tail(1.0, 1) == pytest.approx(1 - 2 / np.e)


@pytest.mark.parametrize("what", ["peek", "losses_at", "full_gradient", "losses", "whole_shards", "two passes"])
def test_nothing_else_looks_at_samples(what: str) -> None:
    def program(c: Clients) -> dict[str, Tensor]:
        if what == "full_gradient":
            c.full_gradient()
        elif what == "losses":
            c.losses([c.broadcast])
        elif what == "whole_shards":
            list(c.whole_shards())
        elif what == "two passes":
            c.descend()
            c.descend()
        for b in c.batches():
            if what == "peek":
                b.peek(c.broadcast)
            else:
                b.losses(b.rows.clone())
        return {"u": c.update()}

    trainer = Trainer(engine_of("sequential", module("softmax")), row_optimizer(SETTING.optimizer), WORK, None, program)
    shards = Shards.join([Shard.load(images(5), torch.device("cpu"))])
    broadcast = ParameterLayout(module("softmax")).pack(module("softmax"))
    inputs = BlockInputs(losses=lambda models: torch.zeros(1, len(models)))
    with pytest.raises(UnprotectedError, match=r"client\.privacy protects samples"):
        trainer.train(SETTING, broadcast, CLIENTS[:1], shards, inputs)
