"""The gradients of one client, and what a module keeps from one client to the next: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from reference_loops import IMAGES, MODULES, block_of, images, mean_loss, module
from torch import Tensor, nn

from raysim.config.client import SgdConfig
from raysim.training import ParameterLayout, SequentialEngine, row_optimizer
from raysim.training.losses import cross_entropy

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forked() -> Iterator[None]:
    """An engine seeds the global generator for its module; whoever calls it forks."""
    with torch.random.fork_rng(devices=[]):
        yield


def engine_of(start: nn.Module) -> tuple[SequentialEngine, ParameterLayout]:
    """An engine whose row holds the module's own values."""
    layout = ParameterLayout(start)
    row = layout.pack(start)
    engine = SequentialEngine(start, layout, cross_entropy, IMAGES, CPU)
    engine.rows[0] = row
    return engine, layout


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn", "batch_norm"])
def test_gradients_and_losses_are_autograds(name: str, weighted: bool) -> None:
    engine, layout = engine_of(module(name))
    samples, index = images(9, weighted=weighted), torch.tensor([3, 8, 0, 5, 1])
    engine.grad.fill_(7.0)
    engine.grad[0] = 0
    engine.load(block_of([samples], [[index]]))
    loss = engine.gradients(0, 1)

    plain = module(name).train()
    expected = mean_loss(plain, samples, index)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach()[None], rtol=0, atol=1e-6)
    assert not loss.requires_grad
    for key, view in layout.views(engine.grad[0]).items():
        torch.testing.assert_close(view, plain.get_parameter(key).grad, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", MODULES)
def test_gradients_leave_the_parameters_and_the_padding_alone(name: str) -> None:
    engine, layout = engine_of(module(name))
    before = engine.rows.clone()
    engine.load(block_of([images(6)], [[torch.arange(6)]]))
    engine.gradients(0, 1)
    assert torch.equal(engine.rows[:, : layout.trainable], before[:, : layout.trainable])
    padding = torch.ones(layout.trainable, dtype=torch.bool)
    for segment in layout.parameters:
        padding[segment.start : segment.start + segment.size] = False
    assert not engine.grad[0, padding].any()
    assert engine.grad[0, ~padding].any()


@pytest.mark.parametrize("name", MODULES)
def test_a_plain_step_taken_by_the_engine_has_the_bits_of_one_along_its_gradients(name: str) -> None:
    block = block_of([images(6)], [[torch.arange(6), torch.tensor([4, 1])]])
    (one, _), (other, layout) = engine_of(module(name)), engine_of(module(name))
    optimizer = row_optimizer(SgdConfig(lr=0.1))
    assert optimizer.plain
    one.load(block)
    descended = [one.descend(step, 1, 0.1) for step in range(2)]
    other.load(block)
    for step, loss in enumerate(descended):
        assert torch.equal(loss, other.gradients(step, 1))
        optimizer.step(other.rows[:, : layout.trainable], other.grad, 0.1)
    assert torch.equal(one.rows, other.rows)


def test_rows_and_gradients_are_aligned_and_one_client_fits() -> None:
    engine, layout = engine_of(module("mlp"))
    assert engine.capacity == 1
    assert engine.rows.shape == (1, layout.size)
    assert engine.grad.shape == (1, layout.trainable)
    assert engine.rows.data_ptr() % 64 == engine.grad.data_ptr() % 64 == 0


def test_running_statistics_move_in_the_buffers_columns() -> None:
    engine, layout = engine_of(module("batch_norm"))
    plain, samples = module("batch_norm").train(), images(6)
    batches = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])]
    engine.load(block_of([samples], [batches]))
    for step, index in enumerate(batches):
        engine.gradients(step, 1)
        mean_loss(plain, samples, index)
    views = layout.views(engine.rows[0])
    for name, buffer in plain.named_buffers():
        if buffer.dtype == torch.float32:
            assert buffer.any()
            torch.testing.assert_close(views[name], buffer, rtol=0, atol=1e-6)


class Counting(nn.Module):
    """Its output depends on how often it was called: integer state that lies outside the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.register_buffer("calls", torch.tensor(2))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x.flatten(1)) * self.calls


def test_integer_buffers_start_every_client_from_the_modules_values() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        engine, _ = engine_of(Counting())
    seen = []
    for _ in range(3):
        engine.load(block_of([images(4)], [[torch.arange(4)] * 3]))
        seen.append([engine.gradients(step, 1).item() for step in range(3)])
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen[0])) == 3
    assert engine.module.get_buffer("calls") == 5


def test_batch_normalisations_counter_starts_anew() -> None:
    engine, _ = engine_of(module("batch_norm"))
    for _ in range(2):
        engine.load(block_of([images(4)], [[torch.arange(4)]]))
        engine.gradients(0, 1)
        assert engine.module.get_buffer("1.num_batches_tracked") == 1


class Replacing(nn.Module):
    """Puts other tensors in the place of its buffers, as functional code does; one of them grows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.linear = nn.Linear(64, 10)
        self.inner.register_buffer("average", torch.zeros(64))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("cache", torch.zeros(0, dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        self.calls = self.calls + 1
        self.cache = torch.arange(len(self.cache) + 1)
        self.inner.average = 0.5 * self.inner.average + x.mean(0) / self.calls
        out: Tensor = self.linear(x - self.inner.average) * len(self.cache)
        return out


def test_buffers_that_a_module_replaces_are_the_rows_and_do_not_reach_the_next_client() -> None:
    engine, layout = engine_of(Replacing())
    start = engine.rows.clone()
    seen = []
    for _ in range(2):
        engine.rows[:] = start
        engine.load(block_of([images(4)], [[torch.arange(4)] * 3]))
        seen.append([engine.gradients(step, 1).item() for step in range(3)])
        x = torch.from_numpy(images(4).x).float().flatten(1).mean(0) / 255
        average = 0.25 * x + 0.5 * x / 2 + x / 3
        torch.testing.assert_close(layout.views(engine.rows[0])["inner.average"], average)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 3


class Sometimes(nn.Module):
    """Uses one of its two heads, by the number of samples."""

    def __init__(self) -> None:
        super().__init__()
        self.many, self.few = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        head: nn.Linear = self.many if len(x) > 2 else self.few
        out: Tensor = head(x.flatten(1))
        return out


@pytest.mark.parametrize("name", MODULES)
def test_gradients_at_another_point_are_those_of_rows_that_are_there_and_leave_no_trace(name: str) -> None:
    batches, samples = [[torch.arange(5), torch.tensor([1, 6, 7])]], [images(9)]
    engine, layout = engine_of(module(name))
    point = layout.pack(module(name, seed=1))
    start = engine.rows[0].clone()
    engine.load(block_of(samples, batches))
    found = engine.gradients_at(point, 0, 1).clone()  # the engine uses the memory again
    assert torch.equal(engine.rows[0], start)
    losses = [engine.gradients(step, 1) for step in (0, 1)]
    after = (engine.grad.clone(), engine.rows.clone())

    plain, _ = engine_of(module(name))
    plain.load(block_of(samples, batches))
    assert losses == [plain.gradients(step, 1) for step in (0, 1)]
    assert torch.equal(plain.grad, after[0])
    assert torch.equal(plain.rows, after[1])
    plain.rows[0] = point
    plain.load(block_of(samples, batches))
    plain.gradients(0, 1)
    assert torch.equal(found, plain.grad)


def test_an_unused_parameter_has_a_gradient_of_zero_even_after_it_had_another() -> None:
    engine, layout = engine_of(Sometimes())
    engine.load(block_of([images(6)], [[torch.arange(2), torch.arange(6)]]))
    for step, (used, unused) in enumerate((("few", "many"), ("many", "few"))):
        engine.gradients(step, 1)
        views = layout.views(engine.grad[0])
        assert views[f"{used}.weight"].any()
        assert not views[f"{unused}.weight"].any()
        assert not views[f"{unused}.bias"].any()


def test_frozen_parameters_are_used_but_neither_moved_nor_differentiated() -> None:
    start = module("mlp")
    start.get_parameter("1.weight").requires_grad_(False)
    frozen = start.get_parameter("1.weight").clone()
    engine, layout = engine_of(start)
    engine.load(block_of([images(6)], [[torch.arange(6)]]))
    engine.gradients(0, 1)
    assert "1.weight" not in layout.views(engine.grad[0])
    assert torch.equal(engine.module.get_parameter("1.weight"), frozen)

    plain = module("mlp")
    mean_loss(plain, images(6), torch.arange(6)).backward()
    torch.testing.assert_close(layout.views(engine.grad[0])["1.bias"], plain.get_parameter("1.bias").grad)


class Tied(nn.Module):
    """One matrix, used twice, and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.two.weight = self.one.weight
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.scale * self.two(self.one(x.flatten(1)))[:, :10]
        return out


def test_a_tied_parameters_gradient_is_that_of_all_its_uses_and_a_scalar_has_one_too() -> None:
    plain = Tied()
    mean_loss(plain, images(5), torch.arange(5)).backward()
    expected, slope = plain.one.weight.grad, plain.scale.grad
    engine, layout = engine_of(plain)
    engine.load(block_of([images(5)], [[torch.arange(5)]]))
    engine.gradients(0, 1)
    views = layout.views(engine.grad[0])
    torch.testing.assert_close(views["one.weight"], expected)
    torch.testing.assert_close(views["scale"], slope)


def test_the_module_trains_in_training_mode() -> None:
    engine, _ = engine_of(module("dropout").eval())
    engine.load(block_of([images(4)], [[torch.arange(4)]]))
    assert all(part.training for part in engine.module.modules())


def test_what_a_module_draws_belongs_to_its_key() -> None:
    engine, _ = engine_of(module("dropout"))

    def losses(key: int) -> list[float]:
        engine.load(block_of([images(6)], [[torch.arange(6)] * 3], [key]))
        return [engine.gradients(step, 1).item() for step in range(3)]

    first = losses(1)
    assert losses(2) != first
    torch.default_generator.manual_seed(99)
    assert losses(1) == first
    assert len(set(first)) == 3
