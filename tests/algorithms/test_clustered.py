"""IFCA against a plain loop after the paper's algorithm 1, and its claim: clusters are found."""

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
from raysim.rounds.ranges import ClientRange
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_round
from raysim.training import EngineChoice, LocalWork

ROUNDS = 4


@pytest.mark.parametrize("clusters", [2, 3])
def test_ifca_follows_algorithm_1_of_the_paper(clusters: int) -> None:
    run = Run(experiment_of({"name": "ifca", "clusters": clusters}))
    plain = Plain(run)
    models = run.handle.state["clusters"].reshape(clusters, COLUMNS).copy()
    assert len({model.tobytes() for model in models}) == clusters
    chosen: dict[int, int] = {}
    for number in range(1, ROUNDS + 1):
        moved, weight = np.zeros_like(models), np.zeros(clusters)
        for client, p in plain.cohort(number):
            j = int(np.argmin([plain.loss(model, client) for model in models]))
            moved[j] += p * plain.local(models[j], number, client)
            weight[j] += p
            chosen[client] = j
        models = np.array([m / p if p else old for m, p, old in zip(moved, weight, models, strict=True)])
    found = run.rounds(ROUNDS)
    assert len(set(chosen.values())) > 1
    np.testing.assert_allclose(run.handle.state["clusters"].reshape(models.shape), models, rtol=0, atol=3e-6)
    np.testing.assert_allclose(found, models[np.argmax(weight)], rtol=0, atol=3e-6)


class TwoKinds(ListedFederation):
    """Least squares with one of two opposite solutions, that of a client's parity."""

    info = DataInfo("regression", (2,), "real")

    def shard(self, client: int, part: Any = "train") -> Samples:
        generator = np.random.default_rng((client, part == "train"))
        x = generator.normal(size=(20, 2)).astype(np.float32)
        return Samples(x, (x @ [2.0, -1.0] * (-1) ** client).astype(np.float32))


def test_clients_that_need_opposite_models_find_them_and_are_evaluated_with_them() -> None:
    values = {
        "algorithm": "ifca", "cohort": 6, "rounds": 30, "model": "softmax",
        "data": {"partition": "natural", "holdout": 0.5},
        "client": {"batch_size": "full", "steps": 3, "optimizer": {"name": "sgd", "lr": 0.1}},
    }  # fmt: skip
    experiment, federation = Experiment.parse(values), TwoKinds([20] * 6, [20] * 6)
    executor = InProcessExecutor(Job(experiment, ListedSpec(federation), EngineChoice("sequential")))
    tasks = [draw_round(experiment, federation, LocalWork(None, 1, 3), number) for number in range(1, 31)]
    ranges = (ClientRange(np.arange(6)),)
    *_, last = executor.rounds(
        (RoundWork(task, ranges if task.round == 30 else ()) for task in tasks), executor.first()
    )
    (evaluated,) = last.facts.evaluated
    sums: Any = evaluated.sums
    assert (sums[:, 0] < 1e-3).all()  # of the losses; a single model for all would have 5 a sample
