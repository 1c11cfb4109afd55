"""Optimisers on rows against their namesakes in torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.training import row_optimizer
from raysim.training.optimizers import clip_rows

STEPS, WIDTH = 7, 32

CASES: dict[str, tuple[OptimizerConfig, Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SgdConfig(), lambda p: torch.optim.SGD(p, lr=0.3)),
    "sgd_decay": (SgdConfig(weight_decay=0.1), lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=0.1)),
    "sgd_momentum": (SgdConfig(momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9)),
    "sgd_momentum_decay": (
        SgdConfig(momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=0.1),
    ),
    "sgd_nesterov": (
        SgdConfig(momentum=0.8, nesterov=True, weight_decay=0.05),
        lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.8, nesterov=True, weight_decay=0.05),
    ),
    "adam": (AdamConfig(), lambda p: torch.optim.Adam(p, lr=0.3)),
    "adam_decay": (
        AdamConfig(weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-4),
        lambda p: torch.optim.Adam(p, lr=0.3, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-4),
    ),
    "adamw": (
        AdamConfig(name="adamw", weight_decay=0.1, beta1=0.0),
        lambda p: torch.optim.AdamW(p, lr=0.3, weight_decay=0.1, betas=(0.0, 0.999)),
    ),
}
CASE = pytest.mark.parametrize("case", CASES)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def reference(case: str, start: Tensor, gradients: Tensor) -> Tensor:
    """One row, trained by torch.optim along these gradients `[steps, WIDTH]`."""
    parameter = nn.Parameter(start.clone())
    optimizer = CASES[case][1]([parameter])
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@CASE
def test_one_row_follows_torch(case: str) -> None:
    optimizer = row_optimizer(CASES[case][0])
    rows, gradients = draw(1, WIDTH, seed=0), draw(STEPS, WIDTH, seed=1)
    expected = reference(case, rows[0], gradients)
    optimizer.start(rows)
    for gradient in gradients:
        optimizer.step(rows, gradient.clone()[None], 0.3)
    torch.testing.assert_close(rows[0], expected, rtol=0, atol=1e-6)


@CASE
def test_rows_that_leave_from_the_end_each_follow_torch(case: str) -> None:
    optimizer = row_optimizer(CASES[case][0])
    start, gradients = draw(4, WIDTH, seed=2), draw(STEPS, 4, WIDTH, seed=3)
    steps = [7, 5, 5, 2]
    matrix = torch.zeros(4, WIDTH + 16)  # as in the engine: the rows are the first columns of a wider matrix
    rows = matrix[:, :WIDTH]
    rows.copy_(start)
    optimizer.start(rows)
    for step in range(STEPS):
        k = sum(count > step for count in steps)
        optimizer.step(rows[:k], gradients[step, :k].clone(), 0.3)
    for row in range(4):
        expected = reference(case, start[row], gradients[: steps[row], row])
        torch.testing.assert_close(rows[row], expected, rtol=0, atol=1e-6)
    assert not matrix[:, WIDTH:].any()


@CASE
def test_starting_again_forgets_everything(case: str) -> None:
    used, fresh = row_optimizer(CASES[case][0]), row_optimizer(CASES[case][0])
    for seed in range(3):
        rows = draw(2, WIDTH, seed=seed)
        used.start(rows)
        for gradient in draw(3, 2, WIDTH, seed=seed + 10):
            used.step(rows, gradient, 0.3)
    results = []
    for optimizer in (used, fresh):
        rows = draw(2, WIDTH, seed=20)
        optimizer.start(rows)
        for gradient in draw(3, 2, WIDTH, seed=21):
            optimizer.step(rows, gradient, 0.3)
        results.append(rows)
    assert torch.equal(*results)


@CASE
def test_a_block_of_another_size_may_follow(case: str) -> None:
    optimizer = row_optimizer(CASES[case][0])
    for k in (3, 1, 2):
        rows, gradients = draw(k, WIDTH, seed=k), draw(STEPS, k, WIDTH, seed=k + 10)
        expected = [reference(case, rows[i], gradients[:, i]) for i in range(k)]
        optimizer.start(rows)
        for gradient in gradients:
            optimizer.step(rows, gradient.clone(), 0.3)
        torch.testing.assert_close(rows, torch.stack(expected), rtol=0, atol=1e-6)


@CASE
def test_a_rows_bits_depend_neither_on_the_other_rows_nor_on_its_position(case: str) -> None:
    start, gradients = draw(5, WIDTH, seed=4), draw(STEPS, 5, WIDTH, seed=5)

    def trained(order: list[int]) -> Tensor:
        optimizer, rows = row_optimizer(CASES[case][0]), start[order].clone()
        optimizer.start(rows)
        for gradient in gradients:
            optimizer.step(rows, gradient[order].clone(), 0.3)
        return rows

    together, turned = trained([0, 1, 2, 3, 4]), trained([3, 0, 4, 2, 1])
    assert torch.equal(together[[3, 0, 4, 2, 1]], turned)
    assert torch.equal(trained([1, 2]), together[[1, 2]])


@CASE
def test_columns_without_a_gradient_stay_zero(case: str) -> None:
    optimizer, rows = row_optimizer(CASES[case][0]), draw(2, WIDTH, seed=6)
    rows[:, 20:] = 0
    optimizer.start(rows)
    for gradient in draw(STEPS, 2, WIDTH, seed=7):
        gradient[:, 20:] = 0
        optimizer.step(rows, gradient, 0.3)
    assert rows[:, :20].all()
    assert not rows[:, 20:].any()


def test_a_learning_rate_of_zero_moves_nothing() -> None:
    for config, _ in CASES.values():
        optimizer, rows = row_optimizer(config), draw(2, WIDTH, seed=8)
        before = rows.clone()
        optimizer.start(rows)
        optimizer.step(rows, draw(2, WIDTH, seed=9), 0.0)
        assert torch.equal(rows, before)


@given(st.floats(0.01, 100), st.integers(0, 1000), st.sampled_from([1e-6, 1.0, 1e3]))
def test_every_row_is_clipped_as_torch_clips_a_module(norm: float, seed: int, scale: float) -> None:
    gradients = scale * draw(3, WIDTH, seed=seed)
    expected = []
    for row in gradients:
        parameters = [nn.Parameter(torch.zeros(part)) for part in (10, 20, 2)]
        for parameter, part in zip(parameters, torch.split(row, [10, 20, 2]), strict=True):
            parameter.grad = part.clone()
        nn.utils.clip_grad_norm_(parameters, norm)
        expected.append(torch.cat([parameter.grad for parameter in parameters if parameter.grad is not None]))
    clip_rows(gradients, norm)
    torch.testing.assert_close(gradients, torch.stack(expected), rtol=1e-5, atol=0)
    assert gradients.norm(dim=1).max() <= norm * 1.0001


def test_a_short_gradient_is_not_stretched_and_a_zero_one_stays_zero() -> None:
    gradients = torch.stack([torch.full((WIDTH,), 1e-3), torch.zeros(WIDTH)])
    before = gradients.clone()
    clip_rows(gradients, 1.0)
    assert torch.equal(gradients, before)
