"""Small federations that algorithms run on, and the same clients for plain loops in NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from listed_federation import ListedFederation, ListedSpec
from plain_orders import orders

from raysim.config import Experiment
from raysim.config.loading import apply_overrides
from raysim.data import Federation
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.concrete import fit_algorithm
from raysim.rounds.job import Job
from raysim.rounds.results import ServerHandle
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection.cohort import draw_round
from raysim.training import EngineChoice, LocalWork

SIZES = (12, 30, 1, 0, 7, 18)
CLASSES, FEATURES, COLUMNS = 3, 4, 32
BASE: dict[str, Any] = {
    "rounds": 4,
    "cohort": 4,
    "seed": 3,
    "data": {"partition": "natural", "holdout": 0.1},
    "model": "softmax",
    "client": {"batch_size": 5, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.2}},
}

Vector = Any


def experiment_of(algorithm: str | Mapping[str, Any], *overrides: str) -> Experiment:
    """An experiment on softmax regression, of four clients in a round."""
    return Experiment.parse(apply_overrides({**BASE, "algorithm": algorithm}, list(overrides)))


class Run:
    """Rounds in process, without a run directory, on clients of some sizes: one is empty, one has a single sample."""

    def __init__(
        self,
        experiment: Experiment,
        *,
        rows: int | None = None,
        sizes: Sequence[int] = SIZES,
        federation: Federation | None = None,
    ) -> None:
        engine = EngineChoice("sequential") if rows is None else EngineChoice("rows", rows)
        self.federation = federation or ListedFederation(sizes, sizes)
        self.experiment = experiment = fit_algorithm(experiment, self.federation)
        self.executor = InProcessExecutor(Job(experiment, ListedSpec(self.federation), engine))
        self.handle: ServerHandle = self.executor.first()
        self.number = 0

    def task(self, number: int) -> RoundTask:
        work = self.executor.worker.algorithm.work(self.experiment.client)
        return draw_round(self.experiment, self.federation, work, number)

    def rounds(self, count: int) -> Vector:
        """Train so many rounds more; the model `[P]`."""
        works = [RoundWork(self.task(number)) for number in range(self.number + 1, self.number + count + 1)]
        for done in self.executor.rounds(iter(works), self.handle):
            self.handle, self.number = done.server, self.number + 1
        return self.model

    @property
    def model(self) -> Vector:
        return self.executor.fetch(self.handle).copy()


class Plain:
    """The same clients and first model for a plain loop over a vector of weights: softmax regression in float64."""

    def __init__(self, run: Run) -> None:
        self.run, self.w = run, run.model.astype(np.float64)
        self.lr, self.epochs = run.experiment.client.optimizer.lr, run.experiment.client.epochs
        self.population = run.federation.population
        self._samples = [run.federation.shard(client) for client in range(self.population)]
        self.sizes = np.array([len(one) for one in self._samples])

    def cohort(self, number: int) -> Iterator[tuple[int, float]]:
        """Clients of a round, and the weight of each."""
        task = self.run.task(number)
        yield from ((c, p) for c, p in zip(task.clients.tolist(), task.weights.tolist(), strict=True) if p)

    def batches(self, number: int, client: int) -> Iterator[Vector]:
        """The samples of each local step."""
        experiment = self.run.experiment
        work = LocalWork(experiment.client.batch_size, self.epochs, experiment.client.steps)
        for index in orders(experiment.seed, number, client, int(self.sizes[client]), work):
            yield index.numpy()

    def grad(self, w: Vector, client: int, index: Vector = slice(None)) -> Vector:
        """Gradient `[P]` of the mean loss over some samples of a client."""
        x, y = self._samples[client].x[index].astype(np.float64), self._samples[client].y[index]
        share = np.exp(self._log_shares(w, x))
        share[np.arange(len(y)), y] -= 1
        found = np.zeros(COLUMNS)
        found[: CLASSES * FEATURES] = (share.T @ x / len(y)).ravel()
        found[16 : 16 + CLASSES] = share.mean(axis=0)
        return found

    def loss(self, w: Vector, client: int) -> float:
        """Mean loss over a client's samples."""
        x, y = self._samples[client].x.astype(np.float64), self._samples[client].y
        return float(-self._log_shares(w, x)[np.arange(len(y)), y].mean())

    def local(self, w: Vector, number: int, client: int) -> Vector:
        """Where plain SGD arrives from w."""
        for index in self.batches(number, client):
            w = w - self.lr * self.grad(w, client, index)
        return w

    def _log_shares(self, w: Vector, x: Vector) -> Vector:
        logits = x @ w[: CLASSES * FEATURES].reshape(CLASSES, FEATURES).T + w[16 : 16 + CLASSES]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
