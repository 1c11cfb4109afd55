"""A client's round: steps of a local optimiser on its row, corrected by the algorithm.

One loop for every engine and every algorithm: the k clients that still have steps to take are the first k rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.data import Samples
from raysim.training.batches import LocalWork, orders
from raysim.training.engine import Engine
from raysim.training.optimizers import RowOptimizer, clip_rows


@dataclass(frozen=True, slots=True)
class RoundSetting:
    """What all clients of a round have in common.

    Attributes:
        seed: the experiment's seed.
        round: number of the round, from 1.
        lr: client learning rate of this round.
    """

    seed: int
    round: int
    lr: float


@dataclass(frozen=True, slots=True)
class ClientContext:
    """What an algorithm may look at, for the k clients whose rows it is given.

    Attributes:
        setting: seed, round and client learning rate.
        broadcast: `[P]`, the model that every client began with.
        trainable: T; columns `[T, P)` are float buffers.
        clients: ids, int64 `[k]`.
        samples: training samples of each, int64 `[k]`.
        steps: local steps of each in this round, int64 `[k]`.
        grad: `[k, T]`, the gradients of the last step, corrected; a local optimiser may have used them up since.
    """

    setting: RoundSetting
    broadcast: Tensor
    trainable: int
    clients: np.ndarray[tuple[int], np.dtype[np.int64]]
    samples: np.ndarray[tuple[int], np.dtype[np.int64]]
    steps: np.ndarray[tuple[int], np.dtype[np.int64]]
    grad: Tensor


class ClientRule(Protocol):
    """The part of an algorithm that runs on a client (see `raysim.algorithms.Algorithm`)."""

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        """Change gradients `[k, T]` in place, given the weights `[k, T]`."""

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        """What the clients send, a tensor `[k, …]` for each field of the record."""


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a block of K clients gave.

    Attributes:
        sent: the record's fields, each `[K, size]`, valid until the engine's next block.
        loss: mean training loss over each client's steps, float64 `[K]`; NaN where it took none.
    """

    sent: Mapping[str, Tensor]
    loss: np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains blocks of clients on an engine.

    Attributes:
        optimizer: None leaves the rows at the broadcast model: the algorithm sends gradients, not steps.
    """

    engine: Engine
    optimizer: RowOptimizer | None
    work: LocalWork
    clip_norm: float | None
    rule: ClientRule

    def train(
        self, setting: RoundSetting, broadcast: Tensor, clients: Sequence[int], shards: Sequence[Samples]
    ) -> BlockResult:
        """Train at most K clients from the broadcast model `[P]`, which is only read.

        Clients must be ordered by falling number of steps, so that the ones still training are a prefix.
        """
        k, trainable = len(clients), self.engine.grad.shape[1]
        samples = np.array([len(shard) for shard in shards], dtype=np.int64)
        steps = self.work.count(samples)
        assert np.all(np.diff(steps) <= 0), "clients are ordered by falling number of steps"
        self.engine.rows[:k] = broadcast
        rows, grad = self.engine.rows[:k, :trainable], self.engine.grad[:k]
        self.engine.load(shards, [_module_key(setting, client) for client in clients])
        if not steps.all():
            grad.zero_()  # a client without steps has none of its own
        if self.optimizer is not None:
            self.optimizer.start(rows)

        def context(active: int) -> ClientContext:
            ids = np.asarray(clients[:active], dtype=np.int64)
            return ClientContext(setting, broadcast, trainable, ids, samples[:active], steps[:active], grad[:active])

        order = [
            orders(setting.seed, setting.round, client, int(n), self.work)
            for client, n in zip(clients, samples, strict=True)
        ]
        loss_sum = torch.zeros(k, dtype=torch.float64, device=rows.device)
        active, now = k, context(k)
        for step in range(int(steps.max(initial=0))):
            still = int(np.count_nonzero(steps > step))
            if still != active:
                active, now = still, context(still)
            loss_sum[:active] += self.engine.gradients([next(order[i]) for i in range(active)])
            if self.clip_norm is not None:
                clip_rows(grad[:active], self.clip_norm)
            self.rule.correct(grad[:active], rows[:active], now)
            if self.optimizer is not None:
                self.optimizer.step(rows[:active], grad[:active], setting.lr)
        sent = self.rule.send(self.engine.rows[:k], context(k))
        with np.errstate(invalid="ignore"):
            loss = loss_sum.cpu().numpy() / np.where(steps > 0, steps, np.nan)
        return BlockResult(sent, loss)


def _module_key(setting: RoundSetting, client: int) -> int:
    return keyed.integer(setting.seed, keyed.Purpose.MODULE, setting.round, client)
