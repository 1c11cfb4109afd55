"""A client's round: steps of a local optimiser on its row, corrected by the algorithm.

One loop for every engine and every algorithm: the k clients that still have steps to take are the first k rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.training.batches import Batch, BatchPlan, LocalWork, Shards, gather
from raysim.training.context import ClientContext, Given, RoundSetting
from raysim.training.engine import Block, Engine
from raysim.training.optimizers import RowOptimizer, clip_rows
from raysim.training.resampling import Resampling
from raysim.training.transfer import to_device

Solver = Callable[[Tensor, Sequence[Batch], Sequence[Int64], ClientContext], Float64]


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
    loss: Float64
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains blocks of clients on an engine.

    Attributes:
        optimizer: None leaves the rows at the broadcast model: the algorithm sends gradients, not steps.
        rule_sees_gradients: whether it corrects or sends them; if not, they may never be put together as rows.
        start: changes the rows `[k, P]` in place before the first step of a turn.
        turns: times that clients go through their steps.
        stepwise: whether the rule looks at `context.step`.
        anchored: whether the algorithm needs the gradients of whole shards at the broadcast model; where a cohort stays
            for several rounds, in those without steps.
        referenced: whether it needs those of every step's samples at the broadcast model.
        solver: takes the place of local steps (`raysim.algorithms.Algorithm.solve`).
        peers: the models `[k, P]` that representations are compared with.
        local_step: takes a step of the rows `[k, P]` along their gradients `[k, T]`, in place of rule and optimiser.
        scratch: names of the matrices that the rule computes in.
    """

    engine: Engine
    optimizer: RowOptimizer | None
    work: LocalWork
    clip_norm: float | None
    rule: ClientRule
    rule_sees_gradients: bool = True
    start: Callable[[Tensor, ClientContext], None] | None = None
    anchored: bool = False
    turns: int = 1
    stepwise: bool = False
    referenced: bool = False
    peers: Callable[[ClientContext], tuple[Tensor, ...]] | None = None
    solver: Solver | None = None
    local_step: Callable[[Tensor, Tensor, ClientContext], None] | None = None
    scratch: Sequence[str] = ()
    resampling: Resampling | None = None

    def train(
        self, setting: RoundSetting, broadcast: Tensor, clients: Int64, shards: Shards, given: Given | None = None
    ) -> BlockResult:
        """Train at most K clients from the broadcast model `[P]`, which is only read.

        Clients must be ordered by falling number of steps, so that the ones still training are a prefix.
        """
        given = given or Given()
        began = time.perf_counter()
        k, trainable = len(clients), self.engine.grad.shape[1]
        plan = BatchPlan.draw(setting.seed, setting.round, clients, shards.count, self.work, given.steps)
        if self.resampling is not None:
            plan = self.resampling(plan, setting.seed, setting.round, clients, shards, self.work)
        assert np.all(np.diff(plan.steps) <= 0), "clients are ordered by falling number of steps"
        keys = keyed.integers(setting.seed, keyed.Purpose.MODULE, setting.round, clients)
        rows, grad = self.engine.rows[:k], self.engine.grad[:k]
        known = (clients, shards.count, plan.steps)
        anchored = self.anchored and (self.work.rounds == 1 or not plan.steps.any())
        anchor = self._anchor(setting, broadcast, clients, shards, keys, given.context) if anchored else None
        rows.copy_(broadcast)
        context = ClientContext(
            setting,
            broadcast,
            trainable,
            *known,
            grad,
            given.loss,
            given.server,
            given.state,
            anchor,
            losses=given.losses,
            epochs=self.work.epochs,
            scratch={name: rows.clone() for name in self.scratch},
        )
        spent = {"batches": time.perf_counter() - began, "steps": 0.0}
        for turn in range(self.turns):
            began = time.perf_counter()
            context = replace(context, turn=turn)
            if self.start is not None:
                self.start(rows, context)
            peers = () if self.peers is None else self.peers(context)
            self.engine.load(Block(shards, plan, keys, peers, given.context))
            loaded = time.perf_counter()
            if not plan.steps.all():
                grad.zero_()  # a client without steps has none of its own
            loss_sum = (
                self._steps(context, rows[:, :trainable])
                if self.solver is None
                else self._solved(self.solver, context, rows, shards, plan)
            )
            spent["batches"] += loaded - began
            spent["steps"] += time.perf_counter() - loaded
        began = time.perf_counter()
        sent = self.rule.send(rows, context)
        with np.errstate(invalid="ignore"):
            loss = loss_sum.cpu().numpy() / np.where(plan.steps > 0, plan.steps, np.nan)
        spent["steps"] += time.perf_counter() - began
        return BlockResult(sent, loss, spent)

    def _solved(self, solver: Solver, context: ClientContext, rows: Tensor, shards: Shards, plan: BatchPlan) -> Tensor:
        """What the solver leaves in the rows `[K, P]`; the sum of each client's losses, float64 `[K]`."""
        spans = zip(shards.start.tolist(), shards.count.tolist(), strict=True)
        everything = (torch.arange(start, start + count, device=rows.device) for start, count in spans)
        samples = [gather(shards.pool, index, self.engine.info) for index in everything]
        orders = [plan.index[:steps, i, 0] for i, steps in enumerate(plan.steps.tolist())]
        return torch.from_numpy(solver(rows, samples, orders, context))

    def _anchor(
        self,
        setting: RoundSetting,
        broadcast: Tensor,
        clients: Int64,
        shards: Shards,
        keys: Int64,
        context: Tensor | None,
    ) -> Tensor:
        """Gradients `[k, T]` of whole shards at the broadcast model, batch by batch."""
        work = LocalWork(self.work.batch_size, drop_last=self.work.drop_last)
        order = np.argsort(-work.count(shards.count), kind="stable")  # who does little of an epoch may have a long one
        some = Shards(shards.pool, shards.start[order], shards.count[order])
        plan = BatchPlan.draw(setting.seed, setting.round, clients[order], some.count, work)
        rows, grad = self.engine.rows[: len(order)], self.engine.grad
        rows.copy_(broadcast)
        place = to_device(order, rows.device)
        told = None if context is None else context[place]
        self.engine.load(Block(some, plan, keys[order], context=told))
        share = to_device((plan.count / np.maximum(plan.count.sum(axis=0), 1)).astype(np.float32), rows.device)
        total = torch.zeros_like(grad[: len(order)])
        for step, part in enumerate(share):
            k = int(np.count_nonzero(plan.steps > step))
            self.engine.gradients(step, k)
            total[:k].addcmul_(grad[:k], part[:k, None])
        found = torch.empty_like(total)
        found[place] = total
        return found

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
            active, losses = rows[:k], loss_sum[:k]
            steps, done = range(done, last), last
            if self.engine.take(steps, losses, context.broadcast, lr):
                continue
            now = context.first(k)
            for step in steps:
                if descends:
                    losses += self.engine.descend(step, k, lr)
                    continue
                if self.referenced:
                    now = replace(now, reference=self.engine.gradients_at(context.broadcast, step, k))
                losses += self.engine.gradients(step, k)
                if clip_norm is not None:
                    clip_rows(now.grad, clip_norm)
                if self.local_step is not None:
                    self.local_step(now.grad, self.engine.rows[:k], replace(now, step=step))
                    continue
                self.rule.correct(now.grad, active, replace(now, step=step) if self.stepwise else now)
                if optimizer is not None:
                    optimizer.step(active, now.grad, lr)
        return loss_sum
