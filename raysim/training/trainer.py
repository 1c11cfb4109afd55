"""A client's round: steps of a local optimiser on its row, corrected by the algorithm.

One loop for every engine and every algorithm: the k clients that still have steps to take are the first k rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysim import keyed
from raysim.training.batches import BatchPlan, LocalWork, Shards
from raysim.training.engine import Block, Engine
from raysim.training.optimizers import RowOptimizer, clip_rows

Int64 = npt.NDArray[np.int64]


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
    clients: Int64
    samples: Int64
    steps: Int64
    grad: Tensor

    def first(self, k: int) -> ClientContext:
        """What concerns the first k clients."""
        return replace(
            self, clients=self.clients[:k], samples=self.samples[:k], steps=self.steps[:k], grad=self.grad[:k]
        )


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
        seconds: that it took to draw batches and take up the block (`batches`), and to train (`steps`).
    """

    sent: Mapping[str, Tensor]
    loss: npt.NDArray[np.float64]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains blocks of clients on an engine.

    Attributes:
        optimizer: None leaves the rows at the broadcast model: the algorithm sends gradients, not steps.
        rule_sees_gradients: whether it corrects or sends them; if not, they may never be put together as rows.
    """

    engine: Engine
    optimizer: RowOptimizer | None
    work: LocalWork
    clip_norm: float | None
    rule: ClientRule
    rule_sees_gradients: bool = True

    def train(self, setting: RoundSetting, broadcast: Tensor, clients: Int64, shards: Shards) -> BlockResult:
        """Train at most K clients from the broadcast model `[P]`, which is only read.

        Clients must be ordered by falling number of steps, so that the ones still training are a prefix.
        """
        began = time.perf_counter()
        k, trainable = len(clients), self.engine.grad.shape[1]
        plan = BatchPlan.draw(setting.seed, setting.round, clients, shards.count, self.work)
        assert np.all(np.diff(plan.steps) <= 0), "clients are ordered by falling number of steps"
        self.engine.rows[:k] = broadcast
        keys = keyed.integers(setting.seed, keyed.Purpose.MODULE, setting.round, clients)
        self.engine.load(Block(shards, plan, keys))
        loaded = time.perf_counter()
        grad = self.engine.grad[:k]
        if not plan.steps.all():
            grad.zero_()  # a client without steps has none of its own
        context = ClientContext(setting, broadcast, trainable, clients, shards.count, plan.steps, grad)
        loss_sum = self._steps(context, self.engine.rows[:k, :trainable])
        sent = self.rule.send(self.engine.rows[:k], context)
        with np.errstate(invalid="ignore"):
            loss = loss_sum.cpu().numpy() / np.where(plan.steps > 0, plan.steps, np.nan)
        return BlockResult(sent, loss, {"batches": loaded - began, "steps": time.perf_counter() - loaded})

    def _steps(self, context: ClientContext, rows: Tensor) -> Tensor:
        """All local steps of the rows `[K, T]`; the sum of each client's losses, float64 `[K]`."""
        optimizer, clip_norm, lr = self.optimizer, self.clip_norm, context.setting.lr
        descends = optimizer is not None and optimizer.plain and clip_norm is None and not self.rule_sees_gradients
        if optimizer is not None:
            optimizer.start(rows)
        loss_sum = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        done = 0
        for last in np.unique(context.steps[context.steps > 0]).tolist():  # between them, always the same clients train
            k = int(np.count_nonzero(context.steps >= last))
            active, losses, now = rows[:k], loss_sum[:k], context.first(k)
            steps, done = range(done, last), last
            if self.engine.take(steps, losses, context.broadcast, lr):
                continue
            for step in steps:
                if descends:
                    losses += self.engine.descend(step, k, lr)
                    continue
                losses += self.engine.gradients(step, k)
                if clip_norm is not None:
                    clip_rows(now.grad, clip_norm)
                self.rule.correct(now.grad, active, now)
                if optimizer is not None:
                    optimizer.step(active, now.grad, lr)
        return loss_sum
