"""Evaluation against a direct computation, and sums that merge to the same bits in any order."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_loops import IMAGES, images, module
from torch import Tensor, nn

from raysim.data import DataInfo, Samples
from raysim.training import Evaluator, ParameterLayout, merge_exact, resolve_metrics, values_of
from raysim.training.evaluator import SUM_BITS
from raysim.training.losses import cross_entropy, mse

CPU = torch.device("cpu")
NUMBERS = DataInfo("regression", (3,), "real")


def evaluator_of(start: nn.Module, batch_size: int = 4, *names: str) -> Evaluator:
    """An evaluator that has the module's own values loaded."""
    layout = ParameterLayout(start)
    metrics = resolve_metrics(names or ("accuracy", "top3"), IMAGES)
    evaluator = Evaluator(copy.deepcopy(start), layout, cross_entropy, metrics, IMAGES, CPU, batch_size)
    evaluator.load(layout.pack(start))
    return evaluator


def outputs(start: nn.Module, samples: Samples) -> Tensor:
    plain = copy.deepcopy(start).eval()
    with torch.no_grad():
        logits: Tensor = plain(torch.from_numpy(samples.x).float() / 255)
    return logits


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["softmax", "cnn", "batch_norm", "dropout"])
def test_metrics_are_those_of_a_direct_computation(name: str, weighted: bool) -> None:
    start, samples = module(name), images(23, weighted=weighted)
    evaluator = evaluator_of(start)
    found = values_of(evaluator.metrics, evaluator.sums(samples))

    logits, y = outputs(start, samples), torch.from_numpy(samples.y)
    weight = np.ones(23) if samples.weight is None else samples.weight.astype(np.float64)
    losses = F.cross_entropy(logits, y, reduction="none").double().numpy()
    hits = (logits.argmax(1) == y).numpy()
    top3 = (logits.topk(3).indices == y[:, None]).any(1).numpy()
    assert found == {
        "loss": pytest.approx(float((weight * losses).sum() / weight.sum()), abs=1e-6),
        "accuracy": pytest.approx(float((weight * hits).sum() / weight.sum()), abs=1e-12),
        "top3": pytest.approx(float((weight * top3).sum() / weight.sum()), abs=1e-12),
    }
    assert evaluator.mean_loss(samples) == found["loss"]


def test_numbers_are_evaluated_by_their_errors() -> None:
    start = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    generator = np.random.default_rng(0)
    samples = Samples(generator.normal(size=(11, 3)).astype(np.float32), generator.normal(size=11).astype(np.float32))
    layout, metrics = ParameterLayout(start), resolve_metrics(("rmse", "mae"), NUMBERS)
    evaluator = Evaluator(copy.deepcopy(start), layout, mse, metrics, NUMBERS, CPU, 4)
    evaluator.load(layout.pack(start))
    with torch.no_grad():
        error = (start(torch.from_numpy(samples.x)) - torch.from_numpy(samples.y)).double().numpy()
    assert values_of(metrics, evaluator.sums(samples)) == {
        "loss": pytest.approx((error**2).mean(), rel=1e-6),
        "rmse": pytest.approx(math.sqrt((error**2).mean()), rel=1e-6),
        "mae": pytest.approx(np.abs(error).mean(), rel=1e-6),
    }


def test_no_samples_have_no_mean() -> None:
    evaluator = evaluator_of(module("softmax"))
    assert not evaluator.sums(images(0)).any()
    assert math.isnan(evaluator.mean_loss(images(0)))


def test_the_loaded_model_is_a_copy_and_the_module_is_only_read() -> None:
    start = module("batch_norm").train()
    before = {name: tensor.clone() for name, tensor in start.state_dict().items()}
    layout = ParameterLayout(start)
    evaluator = evaluator_of(start)
    first = evaluator.sums(images(9))
    model = layout.pack(module("batch_norm", seed=5))
    evaluator.load(model)
    second = evaluator.sums(images(9))
    assert not np.array_equal(first, second)
    model.zero_()
    np.testing.assert_array_equal(evaluator.sums(images(9)), second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in start.state_dict().items())
    assert start.training
    assert not evaluator.module.training


def test_no_random_number_is_drawn() -> None:
    evaluator, samples = evaluator_of(module("dropout")), images(9)
    state = torch.get_rng_state()
    first = evaluator.sums(samples)
    torch.testing.assert_close(torch.get_rng_state(), state)
    np.testing.assert_array_equal(evaluator.sums(samples), first)


def test_exact_sums_are_the_sums_in_units() -> None:
    evaluator, samples = evaluator_of(module("cnn")), images(9, weighted=True)
    exact, _ = evaluator.exact_sums(samples)
    assert all(isinstance(value, int) for value in exact)
    np.testing.assert_allclose(merge_exact([exact]), evaluator.sums(samples), rtol=0, atol=2.0**-SUM_BITS)


@settings(max_examples=20)
@given(st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_same_ranges_merge_to_the_same_bits_whoever_evaluated_them(workers: int, chance: random.Random) -> None:
    samples, size = images(23, weighted=True), 4
    ranges = [(start, min(start + size, 23)) for start in range(0, 23, size)]
    one = evaluator_of(module("softmax"), size)
    expected = merge_exact([one.exact_sums(samples.slice(*part))[0] for part in ranges])

    evaluators = [evaluator_of(module("softmax"), size) for _ in range(workers)]
    chance.shuffle(ranges)
    parts = [chance.choice(evaluators).exact_sums(samples.slice(*part))[0] for part in ranges]
    np.testing.assert_array_equal(merge_exact(parts), expected)
    np.testing.assert_allclose(expected, one.sums(samples), rtol=1e-12)


SUMS = st.lists(st.integers(-(2**80), 2**80) | st.none(), min_size=2, max_size=2).map(tuple)


@given(st.lists(SUMS, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_merging_is_exact_and_commutative_and_what_is_not_finite_stays_so(
    parts: list[tuple[int | None, ...]], chance: random.Random
) -> None:
    expected = []
    for column in zip(*parts, strict=True):
        known = [value for value in column if value is not None]
        expected.append(sum(known) / 2**SUM_BITS if len(known) == len(parts) else math.nan)
    np.testing.assert_array_equal(merge_exact(parts), expected)
    chance.shuffle(parts)
    np.testing.assert_array_equal(merge_exact(parts), expected)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_model_that_is_not_finite_has_no_loss_but_can_be_counted(value: float) -> None:
    start = module("softmax")
    evaluator = evaluator_of(start, 4, "accuracy")
    model = ParameterLayout(start).pack(start)
    model[0] = value
    evaluator.load(model)
    exact, _ = evaluator.exact_sums(images(9))
    assert exact[0] is None
    found = values_of(evaluator.metrics, merge_exact([evaluator_of(start).exact_sums(images(9))[0][:4], exact]))
    assert math.isnan(found["loss"])
    assert 0 <= found["accuracy"] <= 1


class Standardised(nn.Module):
    """Standardises each batch by itself, in evaluation, too: its samples affect each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1))
        return z - z.mean(dim=0)


class Noisy(Standardised):
    """Draws random numbers in evaluation, too."""

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.layer(x.flatten(1))
        return z + torch.randn_like(z)


SIZES = (3, 1, 9, 2, 20, 5, 4, 7, 1)
"""Of sets: in batches of 16 there are groups of several, of one, and a set that is larger than a batch."""


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["softmax", "cnn", "batch_norm", "dropout", "diverged", "standardised", "noisy"])
def test_sets_that_go_through_the_model_side_by_side_are_measured_as_each_alone(kind: str, weighted: bool) -> None:
    own = {"standardised": Standardised, "noisy": Noisy}
    start = own[kind]() if kind in own else module("softmax" if kind == "diverged" else kind)
    evaluator = evaluator_of(start, 16, "accuracy", "top3", "balanced_accuracy", "roc_auc", "ece")
    if kind == "diverged":
        evaluator.load(torch.full_like(evaluator._row, torch.nan))
    sets = [images(size, weighted=weighted, seed=size) for size in SIZES]
    shapes: list[int] = []
    evaluator.module.register_forward_hook(lambda module, given, output: shapes.append(len(output)))

    found = evaluator.each(sets)
    if kind in own:
        assert shapes[:6] == [15, 9, 3, 1, 9, 2], "together, the largest alone, then each alone"
    else:
        assert shapes == [15, 9, 16, 4, 16, 7, 1], "together and the largest alone; the one that is larger; the last"
    for one, alone in zip(found, sets, strict=True):
        np.testing.assert_allclose(one, evaluator.values(alone), rtol=1e-6, equal_nan=True)
