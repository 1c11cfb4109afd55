"""CoCoA against a plain loop after the paper's algorithm 1, and its claim: the duality gap goes to zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation
from plain_federation import Run, experiment_of
from plain_orders import orders

from raysim.data import DataInfo, Samples
from raysim.training import LocalWork

L2 = 0.05
SIZES = [12, 30, 1, 0, 7]
TOTAL = sum(SIZES)
UNBIASED = "model={name: softmax, bias: false}"
BINARY = "training.loss=binary_cross_entropy"


class Line(ListedFederation):
    """Numbers that are linear in three features, but for noise."""

    info = DataInfo("regression", (3,), "real")

    def shard(self, client: int, part: Any = "train") -> Samples:
        random, count = np.random.default_rng(client), int(self.sizes(part)[client])
        x = random.normal(size=(count, 3)).astype(np.float32)
        return Samples(x, (x @ [1.0, -2.0, 0.5] + random.normal(size=count)).astype(np.float32))


class Sides(Line):
    """Two classes, of which a third of the samples are on the wrong side."""

    info = DataInfo("classification", (3,), "real", classes=2)

    def shard(self, client: int, part: Any = "train") -> Samples:
        found, random = super().shard(client, part), np.random.default_rng(client + 100)
        return Samples(found.x, (found.y + 2 * random.normal(size=len(found)) > 0).astype(np.int64))


def ridge(combine: str = "add", **knobs: Any) -> Run:
    algorithm = {"name": "cocoa", "l2": L2, "combine": combine, **knobs}
    return Run(experiment_of(algorithm, UNBIASED, "cohort=5"), federation=Line(SIZES))


def pooled(federation: ListedFederation) -> tuple[Any, Any]:
    shards = [federation.shard(client) for client in range(len(SIZES))]
    return np.concatenate([one.x for one in shards]).astype(float), np.concatenate([one.y for one in shards])


@pytest.mark.parametrize("combine", ["add", "average"])
def test_cocoa_follows_algorithm_1_of_the_paper(combine: str) -> None:
    run = ridge(combine)
    gamma, sigma = (1.0, 5.0) if combine == "add" else (0.2, 1.0)
    w, duals = np.zeros(3), [np.zeros(size) for size in SIZES]
    for number in (1, 2, 3):
        moves = []
        for client, size in enumerate(SIZES):
            shard = run.federation.shard(client)
            x, y, delta = shard.x.astype(float), shard.y.astype(float), np.zeros(size)
            for (j,) in orders(run.experiment.seed, number, client, size, LocalWork(1, 2)):
                # The maximum over the coordinate of -ℓ*(-α - Δ) - wᵀAΔ - σ'/(2λn) ‖AΔ‖², with ℓ*(-a) = a²/4 - a y.
                slope = y[j] - (duals[client][j] + delta[j]) / 2 - x[j] @ (w + sigma / (L2 * TOTAL) * x.T @ delta)
                delta[j] += slope / (0.5 + sigma / (L2 * TOTAL) * x[j] @ x[j])
            duals[client] += gamma * delta
            moves.append(x.T @ delta / (L2 * TOTAL))
        w = w + gamma * sum(moves)
    np.testing.assert_allclose(run.rounds(3)[:3], w, rtol=0, atol=1e-6)


def gap_of(run: Run, alphas: Any, x: Any, y: Any, l2: float) -> float:
    """P(w) - D(α) with w = w(α)."""
    w = x.T @ alphas / (l2 * TOTAL)
    margin, b = y * (x @ w), y * alphas
    config: Any = run.experiment.algorithm
    if config.loss == "squared":
        primal, conjugate = np.square(x @ w - y), np.square(alphas) / 4 - alphas * y
    elif config.loss == "hinge":
        primal, conjugate = np.maximum(1 - margin, 0), -b
    else:
        primal, conjugate = np.logaddexp(0, -margin), b * np.log(b) + (1 - b) * np.log(1 - b)
    return float(primal.mean() + conjugate.mean() + l2 * w @ w)


def duals(run: Run, rounds: int) -> Any:
    """What clients keep after so many rounds more, one number for each sample."""
    run.rounds(rounds)
    states = run.executor.states(run.handle, run.number + 1)
    assert states is not None
    rows, _ = states.read(np.arange(len(SIZES)))
    return np.concatenate([row[:size] for row, size in zip(rows, SIZES, strict=True)]).astype(float)


@pytest.mark.parametrize("loss", ["squared", "logistic", "hinge"])
def test_the_duality_gap_goes_to_zero_and_the_model_is_that_of_the_dual_variables(loss: str) -> None:
    federation, l2 = (Line if loss == "squared" else Sides)(SIZES), 0.3
    more = [] if loss == "squared" else [BINARY]
    algorithm = {"name": "cocoa", "l2": l2, "loss": loss}
    run = Run(experiment_of(algorithm, UNBIASED, "cohort=5", *more), federation=federation)
    x, y = pooled(federation)
    y = y if loss == "squared" else 2 * y - 1
    alphas = [duals(run, rounds) for rounds in (1, 3, 76)]
    gaps = [gap_of(run, alpha, x, y, l2) for alpha in alphas]
    assert gaps[0] > gaps[1] > 1e-4
    assert -1e-9 < gaps[2] < 1e-5
    np.testing.assert_allclose(run.model[:3], x.T @ alphas[-1] / (l2 * TOTAL), rtol=0, atol=1e-6)
    if loss == "squared":
        optimum = np.linalg.solve(2 / TOTAL * x.T @ x + l2 * np.eye(3), 2 / TOTAL * x.T @ y)
        np.testing.assert_allclose(run.model[:3], optimum, rtol=0, atol=1e-3)
