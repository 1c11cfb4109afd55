"""Trains blocks of clients: draws their batches, runs the algorithm's program on them, times both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from raysim import keyed
from raysim.arrays import Float64, Int64
from raysim.training.batches import BatchPlan, LocalWork, Shards
from raysim.training.clients import Clients
from raysim.training.engine import Block, Engine
from raysim.training.examples import poisson_plan
from raysim.training.groups import Clip
from raysim.training.inputs import BlockInputs, RoundSetting
from raysim.training.length_groups import LengthGroups
from raysim.training.optimizers import RowOptimizer
from raysim.training.resampling import Resampling
from raysim.training.step import Means

Program = Callable[[Clients], Mapping[str, Tensor]]
"""A client's round (`raysim.algorithms.Algorithm.local`): from K clients to what they send, each `[K, size]`."""


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a block of K clients gave.

    Attributes:
        sent: the record's fields, each `[K, size]`, valid until the engine's next block.
        loss: mean training loss over each client's steps, float64 `[K]`; NaN where it took none.
        tokens: token ids in the batches of each client's local steps, int64 `[K]`.
        seconds: that it took to draw batches and take up the block (`batches`), and to train (`steps`).
    """

    sent: Mapping[str, Tensor]
    loss: Float64
    tokens: Int64
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Trainer:
    """Trains blocks of clients on an engine.

    Attributes:
        local: what clients do in a round.
        optimizer, clip_norm, matrices: see `Means`.
        tokens: token ids of a sample.
    """

    engine: Engine
    optimizer: RowOptimizer | None
    work: LocalWork
    clip_norm: Clip | None
    local: Program
    matrices: int = 0
    resampling: Resampling | None = None
    groups: LengthGroups | None = None
    tokens: int = 0

    def train(
        self,
        setting: RoundSetting,
        broadcast: Tensor,
        clients: Int64,
        shards: Shards,
        inputs: BlockInputs | None = None,
    ) -> BlockResult:
        """Train at most K clients from the broadcast model `[P]`, which is only read.

        Clients must be ordered by falling number of steps, so that the ones still training are a prefix.
        """
        began, inputs = time.perf_counter(), inputs or BlockInputs()
        turn = inputs.turns(setting, len(clients))
        draw = poisson_plan if self.work.poisson is not None else BatchPlan.draw
        plan = draw(setting.seed, turn, clients, shards.count, self.work, inputs.steps)
        if self.resampling is not None:
            plan = self.resampling(plan, setting.seed, turn, clients, shards, self.work)
        if self.groups is not None:
            plan = self.groups(plan, setting.seed, turn, clients, shards, self.work)
            tokens = self.groups.tokens(plan, shards)
        else:
            tokens = self.tokens * plan.count.sum(axis=0)
        assert np.all(np.diff(plan.steps) <= 0), "clients are ordered by falling number of steps"
        keys = keyed.integers(setting.seed, keyed.Purpose.MODULE, turn, clients)
        private = self.work.poisson is not None
        noise = keyed.integers(setting.seed, keyed.Purpose.EXAMPLE_NOISE, turn, clients) if private else None
        block = Block(shards, plan, keys, context=inputs.context, noise=noise)
        means = Means(self.engine, self.optimizer, self.work, self.clip_norm, self.matrices)
        c = Clients(means, setting, broadcast, clients, block, inputs)
        drawn = time.perf_counter()
        sent = self.local(c)
        loss = c.mean_losses()
        spent = time.perf_counter() - drawn - c.loading
        return BlockResult(sent, loss, tokens, {"batches": drawn - began + c.loading, "steps": spent})
