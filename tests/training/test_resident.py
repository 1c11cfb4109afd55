"""Batches that are kept from evaluation to evaluation: the same bits, a budget, and models that write to them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference_loops import IMAGES, images, module
from test_evaluator import CPU, evaluator_of
from torch import Tensor, nn

from raysim.data import Samples
from raysim.training import Evaluator, ParameterLayout, batches, resolve_metrics
from raysim.training.evaluator import Shard
from raysim.training.losses import cross_entropy
from raysim.training.resident import Resident


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that were read."""
    found: list[int] = []
    known = Shard.load

    def load(samples: Samples, device: torch.device) -> batches.Shard:
        found.append(len(samples))
        return known(samples, device)

    monkeypatch.setattr(batches.Shard, "load", load)
    return found


@pytest.mark.parametrize("weighted", [False, True])
def test_a_range_that_is_evaluated_again_is_not_read_again(loads: list[int], *, weighted: bool) -> None:
    evaluator, samples = evaluator_of(module("cnn")), images(10, weighted=weighted)
    plain = evaluator.exact_sums(samples)
    first = evaluator.exact_sums(samples, key="test")
    loads.clear()
    again = evaluator.exact_sums(samples, key="test")
    assert loads == []
    assert plain == first == again
    other = evaluator.exact_sums(images(10, seed=9), key="validation")
    assert loads
    assert other != again


class Shifting(nn.Module):
    """Writes to its inputs."""

    def __init__(self, write: Callable[[Tensor], object], after: int) -> None:
        super().__init__()
        self.linear, self.write, self.left = nn.Linear(64, 10), write, after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            self.write(x)
        found: Tensor = self.linear(x.flatten(1))
        return found


def subtract(x: Tensor) -> None:
    x.sub_(0.5)


def scale_a_view(x: Tensor) -> None:
    x.flatten(1).mul_(2)


def add_uncounted(x: Tensor) -> None:
    x.data.add_(1)  # torch counts no writes to `data`


@pytest.mark.parametrize(
    ("write", "after"), [(subtract, 0), (subtract, 3), (scale_a_view, 0), (scale_a_view, 7), (add_uncounted, 0)]
)
def test_what_a_model_writes_to_its_inputs_is_never_seen_again(write: Callable[[Tensor], object], after: int) -> None:
    net = Shifting(write, after)
    layout = ParameterLayout(net)

    def evaluator() -> Evaluator:
        fresh = Shifting(write, after)
        fresh.load_state_dict(net.state_dict())
        one = Evaluator(fresh, layout, cross_entropy, resolve_metrics(("accuracy",), IMAGES), IMAGES, CPU, 4)
        one.load(layout.pack(net))
        return one

    kept, plain, samples = evaluator(), evaluator(), images(10)
    for _ in range(4):
        assert kept.exact_sums(samples, key="test") == plain.exact_sums(samples)


def test_a_set_beyond_the_budget_is_not_kept(loads: list[int]) -> None:
    evaluator, samples = evaluator_of(module("softmax")), images(10)
    evaluator._resident = Resident(4 * 64 * 6)
    evaluator.exact_sums(samples, key="test")
    loads.clear()
    evaluator.exact_sums(samples, key="test")
    assert sum(loads) == 10
