"""Micro-batches and activations that are computed anew: the same gradients, for less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from reference_loops import IMAGES, block_of, images, module
from three_clients import drawn
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.models.lora import LoraLinear
from raysim.models.versioned import with_versions
from raysim.training import (
    CannotCapture,
    EngineChoice,
    LocalWork,
    ParameterLayout,
    Saving,
    SequentialEngine,
    activation_bytes,
)
from raysim.training.building import build_engine
from raysim.training.losses import cross_entropy
from raysim.training.recomputing import copied_bytes, recomputed

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forked() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


class Blocks(nn.Module):
    """Blocks in a row, with dropout, running statistics, a buffer that is put anew, and one that it counts in."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.3), nn.BatchNorm1d(64)) for _ in "ab")
        self.head = nn.Linear(64, 10)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for block in self.blocks:
            x = torch.relu(block(x))
        return self.head(self.shifted(x))

    def shifted(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(dim=0)
        return x - self.mean


def blocks() -> nn.Module:
    return drawn(Blocks)


def steps(made: Callable[[], nn.Module], saving: Saving, *, weighted: bool = False) -> list[Tensor]:
    """Losses, gradients and buffers of four steps, the last of a short batch."""
    net = made()
    layout = ParameterLayout(net)
    start = layout.pack(net)
    engine = SequentialEngine(net, layout, cross_entropy, IMAGES, CPU, saving=saving)
    index = torch.arange(23)
    engine.rows[0] = start
    engine.load(block_of([images(23, weighted=weighted)], [[index[:8], index[8:16], index[12:20], index[20:]]], [5]))
    found = []
    for step in range(4):
        loss = engine.gradients(step, 1)
        found += [loss, engine.grad[0].clone()]
        engine.rows[0, : layout.trainable].add_(engine.grad[0], alpha=-0.05)
    return [*found, engine.rows[0].clone(), *(buffer.clone() for buffer in net.buffers())]


@pytest.mark.parametrize("wanted", [True, ("blocks.*",), ("blocks.0", "head"), ("*",)])
def test_activations_computed_anew_give_the_same_bits(wanted: Any) -> None:
    plain, anew = steps(blocks, Saving()), steps(blocks, Saving(checkpointing=wanted))
    assert all(map(torch.equal, plain, anew))


@pytest.mark.parametrize("name", ["cnn", "dropout", "batch_norm"])
def test_they_do_in_any_module(name: str) -> None:
    plain, anew = (steps(lambda: module(name), Saving(checkpointing=wanted)) for wanted in (False, True))
    assert all(map(torch.equal, plain, anew))


def adapted() -> nn.Module:
    """Adapters whose base has a version, and running statistics between them."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        width = IMAGES.input_shape[0] * IMAGES.input_shape[1] * IMAGES.input_shape[2]
        net = with_versions(nn.Sequential(nn.Flatten(), LoraLinear(width, 8, 2, 4.0), nn.BatchNorm1d(8)))
        net[1].residual.normal_()  # type: ignore[operator, union-attr]
        return nn.Sequential(net, nn.Linear(8, 10))


def test_versions_of_a_base_are_shared_by_both_passes_and_other_buffers_are_copied_and_counted() -> None:
    plain, anew = steps(adapted, Saving()), steps(adapted, Saving(checkpointing=("0",)))
    assert all(map(torch.equal, plain, anew))
    assert copied_bytes(adapted(), ("0",)) == 4 * (8 + 8) + 8  # means, variances, the count of batches
    info = DataInfo("classification", (8,), "real", (), 3)
    kept = [
        activation_bytes(nn.Sequential(nn.BatchNorm1d(8, track_running_stats=tracked), nn.Linear(8, 3)), info,
                         cross_entropy, 4, checkpointing=("0",))
        for tracked in (True, False)
    ]  # fmt: skip
    assert kept[0] == (kept[1] or 0) + 4 * (8 + 8) + 8


@pytest.mark.parametrize(("wanted", "passes"), [(False, [1, 1, 1]), (True, [2, 2, 1]), (("blocks.1",), [1, 2, 1])])
def test_what_was_asked_for_is_computed_twice(wanted: Any, passes: list[int]) -> None:
    net, seen = Blocks(), [0, 0, 0]

    def counted(number: int) -> Callable[..., None]:
        def count(*given: Any) -> None:
            seen[number] += 1

        return count

    for number, one in enumerate((net.blocks[0][0], net.blocks[1][0], net.head)):  # type: ignore[index]
        one.register_forward_pre_hook(counted(number))
    layout = ParameterLayout(net)
    engine = SequentialEngine(net, layout, cross_entropy, IMAGES, CPU, saving=Saving(checkpointing=wanted))
    engine.load(block_of([images(8)], [[torch.arange(8)]]))
    engine.gradients(0, 1)
    assert seen == passes


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pieces", [2, 4, 8])
@pytest.mark.parametrize("name", ["softmax", "mlp", "cnn"])
def test_micro_batches_add_up_to_the_batch(name: str, pieces: int, weighted: bool) -> None:
    whole, parts = (steps(lambda: module(name), Saving(accumulation=n), weighted=weighted) for n in (1, pieces))
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_plain_step_takes_the_same_way() -> None:
    found = []
    for fused in (False, True):
        net = module("cnn")
        layout = ParameterLayout(net)
        start = layout.pack(net)
        engine = SequentialEngine(net, layout, cross_entropy, IMAGES, CPU, saving=Saving(accumulation=4))
        engine.rows[0] = start
        engine.load(block_of([images(8)], [[torch.arange(8)]]))
        if fused:
            engine.descend(0, 1, 0.1)
        else:
            engine.gradients(0, 1)
            engine.rows[0, : layout.trainable].add_(engine.grad[0], alpha=-0.1)
        found.append(engine.rows[0].clone())
    assert torch.equal(*found)


def test_a_micro_batch_is_as_small_as_was_asked_for() -> None:
    seen: list[int] = []
    net = module("mlp")
    net.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    engine = SequentialEngine(net, ParameterLayout(net), cross_entropy, IMAGES, CPU, saving=Saving(accumulation=4))
    index = torch.arange(13)
    engine.load(block_of([images(13)], [[index[:8], index[8:]]]))
    engine.gradients(0, 1)
    engine.gradients(1, 1)
    assert seen == [2, 2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("saving", "why"),
    [(Saving(accumulation=2), r"client\.accumulation"), (Saving(checkpointing=True), r"training\.checkpointing")],
)
def test_rows_do_neither_and_say_so(saving: Saving, why: str) -> None:
    net = module("mlp")
    layout, choice = ParameterLayout(net), EngineChoice("rows", 3)
    with pytest.raises(CannotCapture, match=why):
        build_engine(choice, net, layout, cross_entropy, IMAGES, LocalWork(8), saving=saving)


def test_the_outermost_of_what_matches_is_computed_anew() -> None:
    assert recomputed(blocks(), True) == ["blocks.0", "blocks.1"]
    assert recomputed(blocks(), ("blocks.*", "head")) == ["blocks.0", "blocks.1", "head"]
    assert recomputed(module("mlp"), True) == ["0", "1", "2", "3"]
    with pytest.raises(ConfigError, match=r"training\.checkpointing: 'layers\.\*' matches no submodule; they"):
        recomputed(blocks(), ("head", "layers.*"))
    with pytest.raises(ConfigError, match=r"training\.checkpointing: the model has no submodules"):
        recomputed(nn.Linear(2, 2), True)
