"""A client's round against plain training loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from plain_orders import orders
from reference_loops import IMAGES, images, module, plain_training
from torch import Tensor, nn
from torch.func import functional_call

from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.data import Samples
from raysim.training import (
    Block,
    BlockResult,
    Clients,
    Engine,
    LocalWork,
    ParameterLayout,
    RoundSetting,
    SequentialEngine,
    Shard,
    Shards,
    Some,
    Trainer,
    row_optimizer,
)
from raysim.training.batches import gather
from raysim.training.losses import cross_entropy, weighted_mean

CPU = torch.device("cpu")
LR = 0.2
SETTING = RoundSetting(seed=3, round=2, lr=LR)
TWO_EPOCHS = LocalWork(batch_size=5, epochs=2)


@pytest.fixture(autouse=True)
def _forked() -> Iterator[None]:
    """A trainer seeds the global generator for its module; whoever calls it forks."""
    with torch.random.fork_rng(devices=[]):
        yield


class Plain:
    """Sends the rows as they are, and notes what it is shown."""

    def __init__(self) -> None:
        self.corrected: list[tuple[torch.Size, torch.Size, list[int]]] = []
        self.last: Clients | None = None

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        self.last = c
        c.descend(self.correct)
        return {"row": c.rows.clone()}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        self.corrected.append((grad.shape, weights.shape, b.clients.tolist()))


class FedProx(Plain):
    """Li et al. 2020: a proximal term of weight 0.5."""

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad += 0.5 * (weights - b.broadcast[: b.trainable])


class Uncorrected(Plain):
    """Takes plain steps."""

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        c.descend()
        return {"row": c.rows.clone()}


class Gradients(Plain):
    """Sends the gradients at the broadcast model."""

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        grad = torch.zeros_like(c.weights)
        for b in c.batches():
            grad[: b.k] = b.gradients()
        return {"row": c.rows.clone(), "grad": grad}


class ManyRows(Engine):
    """K rows by the book: one functional call a row. What the trainer does with a block is seen on it."""

    name = "many"

    def __init__(self, start: nn.Module, layout: ParameterLayout, k: int) -> None:
        self.module, self.layout = start, layout
        self.rows, self.grad = torch.zeros(k, layout.size), torch.full((k, layout.trainable), 9.0)

    def load(self, block: Block) -> None:
        self.block = block

    def gradients(self, step: int, k: int) -> Tensor:
        losses, plan = [], self.block.plan
        for i in range(k):
            row = self.rows[i, : self.layout.trainable].clone().requires_grad_()
            index = torch.from_numpy(plan.index[step, i, : plan.count[step, i]] + self.block.shards.start[i])
            batch = gather(self.block.shards.pool, index, IMAGES)
            output = functional_call(self.module, self.layout.views(row), (batch.x,))
            loss = weighted_mean(cross_entropy(output, batch.y), batch.weight)
            (self.grad[i],) = torch.autograd.grad(loss, row)
            losses.append(loss.detach())
        return torch.stack(losses)


class Bench:
    """A trainer on a module of the zoo above, and the model that it begins with."""

    def __init__(
        self,
        name: str,
        work: LocalWork = TWO_EPOCHS,
        optimizer: OptimizerConfig | None = None,
        *,
        sends_gradients: bool = False,
        clip_norm: float | None = None,
        rule: Plain | None = None,
        rows: int | None = None,
    ) -> None:
        self.start = module(name)
        self.layout = ParameterLayout(self.start)
        self.broadcast = self.layout.pack(self.start)
        self.rule, self.work = rule or Plain(), work
        engine: Engine = SequentialEngine(module(name), self.layout, cross_entropy, IMAGES, CPU)
        if rows is not None:
            engine = ManyRows(module(name), self.layout, rows)
        local = None if sends_gradients else row_optimizer(optimizer or SgdConfig())
        self.trainer = Trainer(engine, local, work, clip_norm, self.rule.local)

    def train(
        self, clients: Sequence[int], shards: Sequence[Samples], setting: RoundSetting = SETTING
    ) -> tuple[Tensor, np.ndarray[tuple[int], np.dtype[np.float64]]]:
        """Final rows `[k, P]` and losses `[k]`."""
        result = self.result(clients, shards, setting)
        return result.sent["row"], result.loss

    def result(self, clients: Sequence[int], shards: Sequence[Samples], setting: RoundSetting = SETTING) -> BlockResult:
        loaded = [Shard.load(samples, CPU) for samples in shards]
        return self.trainer.train(setting, self.broadcast, np.array(clients, dtype=np.int64), Shards.join(loaded))

    def batches(self, client: int, count: int) -> Iterator[Tensor]:
        return orders(SETTING.seed, SETTING.round, client, count, self.work)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn", "batch_norm"])
def test_one_client_follows_a_plain_torch_loop(name: str, weighted: bool) -> None:
    bench, samples = Bench(name), images(13, weighted=weighted)
    rows, loss = bench.train([7], [samples])
    plain, losses = plain_training(bench.start, samples, bench.batches(7, 13), lr=LR)
    assert len(losses) == 6
    torch.testing.assert_close(rows[0], bench.layout.pack(plain), rtol=0, atol=1e-6)
    assert loss[0] == pytest.approx(np.mean(losses), abs=1e-6)
    assert loss.dtype == np.float64


@pytest.mark.parametrize("work", [LocalWork(4, steps=7), LocalWork(None, epochs=3), LocalWork(100, epochs=2)])
def test_local_steps_and_full_batches_follow_a_plain_torch_loop(work: LocalWork) -> None:
    bench, samples = Bench("mlp", work), images(13)
    rows, _ = bench.train([7], [samples])
    plain, losses = plain_training(bench.start, samples, bench.batches(7, 13), lr=LR)
    assert len(losses) == int(work.count(np.array([13]))[0])
    torch.testing.assert_close(rows[0], bench.layout.pack(plain), rtol=0, atol=1e-6)


def test_momentum_decay_and_clipping_follow_a_plain_torch_loop() -> None:
    bench = Bench("mlp", optimizer=SgdConfig(momentum=0.9, weight_decay=0.05), clip_norm=0.3)
    samples = images(13)
    rows, _ = bench.train([7], [samples])
    plain, _ = plain_training(
        bench.start, samples, bench.batches(7, 13), lr=LR, momentum=0.9, weight_decay=0.05, clip_norm=0.3
    )
    torch.testing.assert_close(rows[0], bench.layout.pack(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [None, 1])
def test_an_algorithm_can_correct_the_gradients_of_every_step(rows: int | None) -> None:
    bench, samples = Bench("mlp", rule=FedProx(), rows=rows), images(13)
    found, _ = bench.train([7], [samples])
    plain, _ = plain_training(bench.start, samples, bench.batches(7, 13), lr=LR, proximal=0.5)
    torch.testing.assert_close(found[0], bench.layout.pack(plain), rtol=0, atol=1e-6)
    without, _ = plain_training(bench.start, samples, bench.batches(7, 13), lr=LR)
    assert not torch.allclose(found[0], bench.layout.pack(without), rtol=0, atol=1e-4)


@pytest.mark.parametrize("rows", [None, 2])
def test_plain_descent_has_the_bits_of_steps_that_are_corrected_by_nothing(rows: int | None) -> None:
    clients, shards = [3, 5][: rows or 1], [images(13), images(9)][: rows or 1]
    watched, blind = Bench("mlp", rows=rows), Bench("mlp", rows=rows, rule=Uncorrected())
    expected, losses = watched.train(clients, shards)
    found, same = blind.train(clients, shards)
    assert torch.equal(found, expected)
    assert np.array_equal(same, losses)


@pytest.mark.parametrize(
    ("optimizer", "clip_norm"),
    [(SgdConfig(momentum=0.9), None), (SgdConfig(weight_decay=0.1), None), (SgdConfig(), 0.1), (AdamConfig(), None)],
)
def test_any_other_step_is_taken_along_the_rows_with_a_correction_or_without(
    optimizer: OptimizerConfig, clip_norm: float | None
) -> None:
    watched, other = (
        Bench("mlp", optimizer=optimizer, clip_norm=clip_norm, rule=rule) for rule in (Plain(), Uncorrected())
    )
    assert torch.equal(other.train([3], [images(13)])[0], watched.train([3], [images(13)])[0])


@pytest.mark.parametrize("optimizer", [SgdConfig(momentum=0.9, weight_decay=0.1), AdamConfig(weight_decay=0.1)])
@pytest.mark.parametrize("rows", [None, 2])
def test_the_broadcast_is_only_read(optimizer: OptimizerConfig, rows: int | None) -> None:
    bench = Bench("mlp" if rows else "batch_norm", optimizer=optimizer, rule=FedProx(), clip_norm=1.0, rows=rows)
    before, version = bench.broadcast.clone(), bench.broadcast._version
    found, _ = bench.train([1, 2][: rows or 1], [images(13)] * (rows or 1))
    assert torch.equal(bench.broadcast, before)
    assert bench.broadcast._version == version
    assert not torch.equal(found[0], before)


def test_the_padding_stays_zero() -> None:
    bench = Bench("batch_norm", optimizer=AdamConfig(name="adamw", weight_decay=0.1), rule=FedProx(), clip_norm=0.5)
    rows, _ = bench.train([1], [images(13)])
    padding = torch.ones(bench.layout.size, dtype=torch.bool)
    for segment in bench.layout.segments:
        padding[segment.start : segment.start + segment.size] = False
    assert padding.any()
    assert not rows[0, padding].any()


@pytest.mark.parametrize("optimizer", [SgdConfig(momentum=0.9), AdamConfig()])
@pytest.mark.parametrize("name", ["mlp", "batch_norm", "dropout"])
def test_a_clients_bits_do_not_depend_on_who_trained_before(name: str, optimizer: OptimizerConfig) -> None:
    alone, after = Bench(name, optimizer=optimizer), Bench(name, optimizer=optimizer)
    samples = images(13, seed=1)
    expected, _ = alone.train([7], [samples])
    for client in range(3):
        after.train([client], [images(8 + client, seed=client)])
    torch.rand(5)
    found, _ = after.train([7], [samples])
    assert torch.equal(found, expected)


def test_dropout_and_the_order_of_samples_differ_between_clients_rounds_and_seeds() -> None:
    bench = Bench("dropout", LocalWork(batch_size=None))  # one full batch: only dropout is random
    samples = images(13)
    found = [bench.train([7], [samples])[0], bench.train([8], [samples])[0]]
    found.append(bench.train([7], [samples], RoundSetting(SETTING.seed, 3, LR))[0])
    found.append(bench.train([7], [samples], RoundSetting(4, SETTING.round, LR))[0])
    assert len({row.numpy().tobytes() for row in found}) == 4
    assert torch.equal(bench.train([7], [samples])[0], found[0])


def test_a_block_of_clients_is_each_client_alone() -> None:
    sizes, ids = [13, 13, 9, 4, 0], [4, 8, 1, 6, 2]
    shards = [images(size, seed=size + client) for size, client in zip(sizes, ids, strict=True)]
    bench = Bench("mlp", optimizer=SgdConfig(momentum=0.9, weight_decay=0.01), rows=6)
    rows, loss = bench.train(ids, shards)
    assert rows.shape == (5, bench.layout.size)
    for i, (client, shard) in enumerate(zip(ids, shards, strict=True)):
        one = Bench("mlp", optimizer=SgdConfig(momentum=0.9, weight_decay=0.01), rows=1)
        row, alone = one.train([client], [shard])
        assert torch.equal(rows[i], row[0])
        assert loss[i] == alone[0] or (np.isnan(loss[i]) and np.isnan(alone[0]))
        plain, _ = plain_training(
            bench.start, shard, bench.batches(client, len(shard)), lr=LR, momentum=0.9, weight_decay=0.01
        )
        torch.testing.assert_close(rows[i], bench.layout.pack(plain), rtol=0, atol=1e-6)


def test_an_algorithm_sees_the_clients_that_still_train_and_at_the_end_all() -> None:
    rule = Plain()
    bench = Bench("mlp", rule=rule, rows=4)
    bench.train([4, 8, 1], [images(13), images(9), images(5)])
    trainable = bench.layout.trainable
    active = [clients for _, _, clients in rule.corrected]
    assert active == [[4, 8, 1]] * 2 + [[4, 8]] * 2 + [[4]] * 2
    assert all(grad == rows == (len(clients), trainable) for grad, rows, clients in rule.corrected)
    c = rule.last
    assert c is not None
    assert c.clients.tolist() == [4, 8, 1]
    assert c.samples.tolist() == [13, 9, 5]
    assert c.steps.tolist() == [6, 4, 2]
    assert (c.setting, c.trainable) == (SETTING, trainable)
    assert c.broadcast is bench.broadcast


@pytest.mark.parametrize("rows", [None, 1, 2])
def test_an_empty_client_takes_no_steps_and_has_no_gradient(rows: int | None) -> None:
    rule = Plain()
    bench = Bench("mlp", rule=rule, rows=rows)
    bench.train([1], [images(5)])
    rule.corrected.clear()
    result = bench.result([7], [images(0)])
    assert torch.equal(result.sent["row"][0], bench.broadcast)
    assert np.isnan(result.loss).all()
    assert rule.corrected == []


def test_without_an_optimiser_the_rows_stay_and_the_gradient_is_that_at_the_broadcast() -> None:
    bench, samples = (
        Bench("mlp", LocalWork(None, steps=1), rule=Gradients(), sends_gradients=True, clip_norm=1e3),
        images(13),
    )
    result = bench.result([7], [samples])
    assert torch.equal(result.sent["row"][0], bench.broadcast)
    plain, _ = plain_training(bench.start, samples, [torch.arange(13)], lr=1.0)
    step = bench.broadcast - bench.layout.pack(plain)
    torch.testing.assert_close(result.sent["grad"][0], step[: bench.layout.trainable], rtol=0, atol=1e-6)


def test_a_learning_rate_of_zero_moves_nothing_but_running_statistics() -> None:
    bench = Bench("batch_norm", optimizer=SgdConfig(momentum=0.5))
    rows, _ = bench.train([1], [images(13)], RoundSetting(0, 1, 0.0))
    trainable = bench.layout.trainable
    assert torch.equal(rows[0, :trainable], bench.broadcast[:trainable])
    assert not torch.equal(rows[0, trainable:], bench.broadcast[trainable:])


def test_clients_of_a_block_must_be_ordered_by_falling_steps() -> None:
    bench = Bench("mlp", rows=2)
    with pytest.raises(AssertionError, match="falling number of steps"):
        bench.train([1, 2], [images(3), images(13)])
