"""SCAFFOLD and FedDyn against plain loops, and their claim: the exact optimum where clients disagree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation, ListedSpec
from plain_federation import COLUMNS, Plain, Run, experiment_of

from raysim.config import Experiment
from raysim.data import DataInfo, Samples
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.rounds.job import Job
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_round
from raysim.training import EngineChoice, LocalWork

ROUNDS = 6


@pytest.mark.parametrize("weights", ["samples", "uniform"])
@pytest.mark.parametrize("option", [1, 2])
def test_scaffold_follows_algorithm_1_of_the_paper(option: int, weights: str) -> None:
    run = Run(experiment_of({"name": "scaffold", "option": option}, f"aggregation.weights={weights}"))
    plain = Plain(run)
    everybody = plain.sizes if weights == "samples" else plain.sizes > 0
    w, c, own = plain.w, np.zeros(COLUMNS), np.zeros((plain.population, COLUMNS))
    for number in range(1, ROUNDS + 1):
        moved, changed = 0.0, 0.0
        for client, p in plain.cohort(number):
            y, k = w, 0
            for index in plain.batches(number, client):
                y, k = y - plain.lr * (plain.grad(y, client, index) - own[client] + c), k + 1
            new = plain.grad(w, client) if option == 1 else own[client] - c + (w - y) / (k * plain.lr)
            moved = moved + p * (y - w)
            changed = changed + everybody[client] / everybody.sum() * (new - own[client])
            own[client] = new
        w, c = w + moved, c + changed
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=2e-5)


def test_scaffold_with_momentum_reads_the_mean_gradient_off_the_steps() -> None:
    """With one client, c_i = c after every round, so that momentum SGD goes its way undisturbed."""
    sgd = "client.optimizer={name: sgd, lr: 0.05, momentum: 0.9}"
    found = {name: Run(experiment_of(name, sgd, "cohort=1"), sizes=[20]).rounds(5) for name in ("scaffold", "fedavg")}
    np.testing.assert_allclose(found["scaffold"], found["fedavg"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("weights", ["samples", "uniform"])
def test_feddyn_follows_algorithm_1_of_the_paper(weights: str) -> None:
    alpha = 0.3
    run = Run(experiment_of({"name": "feddyn", "alpha": alpha}, f"aggregation.weights={weights}"))
    plain = Plain(run)
    everybody = plain.sizes if weights == "samples" else plain.sizes > 0
    w, h, dual = plain.w, np.zeros(COLUMNS), np.zeros((plain.population, COLUMNS))
    for number in range(1, ROUNDS + 1):
        mean = 0.0
        for client, p in plain.cohort(number):
            theta = w
            for index in plain.batches(number, client):
                theta = theta - plain.lr * (plain.grad(theta, client, index) - dual[client] + alpha * (theta - w))
            dual[client] -= alpha * (theta - w)
            h = h - alpha * everybody[client] / everybody.sum() * (theta - w)
            mean = mean + p * theta
        w = mean - h / alpha
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=3e-5)


def test_mimelite_steps_with_the_servers_momentum() -> None:
    run = Run(experiment_of({"name": "mimelite", "beta": 0.7}))
    plain = Plain(run)
    w, m = plain.w, np.zeros(COLUMNS)
    for number in range(1, ROUNDS + 1):
        arrived, gradient = 0.0, 0.0
        for client, p in plain.cohort(number):
            y = w
            for index in plain.batches(number, client):
                y = y - plain.lr * (0.3 * plain.grad(y, client, index) + 0.7 * m)
            arrived, gradient = arrived + p * y, gradient + p * plain.grad(w, client)
        w, m = arrived, 0.7 * m + 0.3 * gradient
    np.testing.assert_allclose(run.rounds(ROUNDS), w, rtol=0, atol=5e-6)


def test_mime_follows_algorithm_1_of_the_paper_two_rounds_a_cohort() -> None:
    beta = 0.6
    run = Run(experiment_of({"name": "mime", "beta": beta}))
    plain = Plain(run)
    w, m = plain.w, np.zeros(COLUMNS)
    for number in range(2, 2 * ROUNDS + 1, 2):
        cohort = list(plain.cohort(number))
        assert cohort == list(plain.cohort(number - 1))
        c, arrived = sum(p * plain.grad(w, client) for client, p in cohort), 0.0
        for client, p in cohort:
            y = w
            for index in plain.batches(number, client):
                corrected = plain.grad(y, client, index) - plain.grad(w, client, index) + c
                y = y - plain.lr * ((1 - beta) * corrected + beta * m)
            arrived = arrived + p * y
        w, m = arrived, beta * m + (1 - beta) * c
    np.testing.assert_allclose(run.rounds(2 * ROUNDS), w, rtol=0, atol=5e-6)


class Quadratics(ListedFederation):
    """Least squares with its own solution, and its own curvature, for each client."""

    info = DataInfo("regression", (2,), "real")

    def shard(self, client: int, part: Any = "train") -> Samples:
        generator = np.random.default_rng(client)
        x = (generator.normal(size=(20, 2)) * [1.0 + client / 2, 1.0]).astype(np.float32)
        y = x @ generator.normal(size=2) * 3 + client
        return Samples(x, y.astype(np.float32))


def distance_to_optimum(algorithm: Any, rounds: int) -> float:
    """Of the model after so many rounds of ten full-batch steps, half of the clients in each."""
    values = {
        "algorithm": algorithm, "cohort": 2, "rounds": rounds, "seed": 1, "model": "softmax",
        "data": {"partition": "natural"},
        "client": {"batch_size": "full", "steps": 10, "optimizer": {"name": "sgd", "lr": 0.03}},
    }  # fmt: skip
    experiment, federation = Experiment.parse(values), Quadratics([20] * 4, [0] * 4)
    executor = InProcessExecutor(Job(experiment, ListedSpec(federation), EngineChoice("sequential")))
    tasks = (draw_round(experiment, federation, LocalWork(None, 1, 10), number) for number in range(1, rounds + 1))
    *_, last = executor.rounds(map(RoundWork, tasks), executor.first())
    shards = [federation.shard(client) for client in range(4)]
    x = np.concatenate([np.c_[one.x, np.ones(20)] for one in shards])
    optimum = np.linalg.lstsq(x, np.concatenate([one.y for one in shards]), rcond=None)[0]
    model = executor.fetch(last.server)
    return float(np.abs(np.r_[model[:2], model[16]] - optimum).max())


def test_scaffold_and_feddyn_find_the_optimum_of_quadratics_where_fedavg_stalls() -> None:
    assert distance_to_optimum("fedavg", 100) > 0.1
    assert distance_to_optimum("scaffold", 100) < 1e-5
    assert distance_to_optimum({"name": "feddyn", "alpha": 3.0}, 100) < 1e-5
