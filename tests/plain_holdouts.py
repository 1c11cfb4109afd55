"""Clients' holdouts after a round, by client, and the same for plain loops in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from plain_federation import COLUMNS, Plain, Run

from raysim.rounds.ranges import ClientRange, Evaluated
from raysim.rounds.task import RoundWork

BIASES = np.arange(COLUMNS) >= 16
"""Their columns in the models of `plain_federation`."""


def another_round(run: Run) -> Evaluated:
    """Train a round more, and evaluate all clients on their holdouts."""
    clients = np.flatnonzero(run.federation.sizes("holdout") > 0)
    run.number += 1
    (done,) = run.executor.rounds(iter([RoundWork(run.task(run.number), (ClientRange(clients),))]), run.handle)
    run.handle = done.server
    return done.facts.evaluated[0]


def losses_of(values: Any) -> list[float]:
    return [float(row[0]) for row in np.asarray(values)]  # the loss is the first metric


def by_client(run: Run) -> Any:
    """The mean losses of all clients on their holdouts after another round."""
    found = another_round(run)
    assert found.clients is not None
    return dict(zip(found.clients.tolist(), losses_of(found.sums), strict=True))


def tuned_by_client(run: Run) -> dict[int, tuple[float, float]]:
    """The same after fine-tuning and before it."""
    found = another_round(run)
    assert found.clients is not None
    pairs = zip(losses_of(found.sums), losses_of(found.untuned), strict=True)
    return dict(zip(found.clients.tolist(), pairs, strict=True))


def model_of(run: Run, client: int) -> Any:
    """The model that a client would use now."""
    worker, states = run.executor.worker, run.executor.states(run.handle, run.number)
    broadcast = torch.from_numpy(run.model)
    if states is None:
        return run.model.astype(np.float64)
    rows = worker.states.taken_up(states, np.array([client]), broadcast)
    return worker.algorithm.client_model(broadcast, worker.states.views(rows))[0].numpy().astype(np.float64)


def holdout_loss(run: Run, plain: Plain, w: Any, client: int) -> float:
    held = run.federation.shard(client, "holdout")
    logits = held.x.astype(np.float64) @ w[:12].reshape(3, 4).T + w[16:19]
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(held)), held.y]).mean())
