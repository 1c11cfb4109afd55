"""A client's round as a program: what an algorithm's `local` is given, and what it may call.

One text serves every engine: K clients are rows of a matrix, ordered by falling number of local steps, and those that
still train are always the first k rows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float64, Int64
from raysim.training.batches import Batch, BatchPlan, LocalWork, Shards, gather
from raysim.training.engine import Block
from raysim.training.inputs import BlockInputs, Correction, RoundSetting, Some
from raysim.training.step import CUT, Means, Step
from raysim.training.transfer import to_device


class Clients(Some):
    """K clients, ordered by falling number of steps.

    A *pass* goes through the local steps of a round: the optimiser starts anew or with what clients kept, modules draw
    what they drew in the pass before, and the recorded loss is that of the last pass. `descend` is a whole pass in one
    call; `batches` is one step by step. Within a pass, what there is of each client is cut to those that still train:
    take it from the step.

    Attributes:
        visit: which round of the cohort's this is, from 0, where a cohort stays for several (`LocalWork.rounds`).
    """

    def __init__(
        self, means: Means, setting: RoundSetting, broadcast: Tensor, clients: Int64, block: Block, inputs: BlockInputs
    ) -> None:
        """Begin a round with rows at the broadcast model."""
        k, trainable = len(clients), means.engine.grad.shape[1]
        rows = means.engine.rows[:k]
        rows.copy_(broadcast)
        super().__init__(
            setting=setting,
            broadcast=broadcast,
            trainable=trainable,
            epochs=means.work.epochs,
            server=inputs.server,
            k=k,
            clients=clients,
            samples=block.shards.count,
            steps=block.plan.steps,
            rows=rows,
            weights=rows[:, :trainable],
            state=inputs.state,
            own={},
        )
        self.visit = (setting.round - 1) % means.work.rounds
        self._means, self._block, self._losses_of = means, block, inputs.losses
        self._turn = inputs.turns(setting, k)
        self._part = inputs.part
        self._loss_sums = torch.zeros(k, dtype=torch.float64, device=rows.device)
        self._counted = np.zeros(k, dtype=np.int64)
        self._outside: dict[str, object] | None = None
        self._gone_through = False
        self.loading = 0.0

    def __getattr__(self, name: str) -> object:
        if name in CUT:
            raise RuntimeError(
                f"within a pass: take b.{name} of the step, which is cut to the clients that still train"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    @property
    def turn(self) -> Int64:
        """What keys the random choices of each, int64 `[K]`; in a synchronous round it is the round."""
        return self._turn

    @property
    def part(self) -> Int64:
        """Of the round's clients, which each belongs to: its edge in a hierarchy, int64 `[K]`; 0 where there is one."""
        return np.zeros(self.k, np.int64) if self._part is None else self._part.astype(np.int64)

    def batches(self) -> Iterator[Step]:
        """A pass, batch by batch, each of the clients that still train; `break` ends it."""
        with self._pass(()):
            for b, steps in self._stretches():
                try:
                    for first in range(steps.start, steps.stop, self._means.work.repeats):
                        b.begin(first)
                        yield b
                finally:
                    self._counted[: b.k] += b.taken

    def descend(self, correct: Correction | None = None, peers: Sequence[Tensor] = ()) -> None:
        """A pass of `step(correct)` in every batch, to the same bits, in one call that may be compiled as a whole.

        Args:
            peers: other models `[K, P]` that representations are compared with (`Algorithm.feature_loss`).
        """
        with self._pass(peers):
            for b, steps in self._stretches():
                b.take(steps, correct)
                self._counted[: b.k] += len(steps)

    def full_gradient(self) -> Tensor:
        """Gradients `[K, T]` of the clients' whole shards at the rows, every sample counted once; new memory.

        They are not clipped and not recorded, and running statistics stay as they are.
        """
        self._refuse_within("full_gradient")
        self._means.engine.refuse_unprotected("gradients of whole shards")
        means, block, rows, device = self._means, self._block, self.rows, self.rows.device
        work = LocalWork(means.work.batch_size, drop_last=means.work.drop_last)
        order = np.argsort(-work.count(self.samples), kind="stable")  # few local steps may go with a long epoch
        shards = Shards(block.shards.pool, block.shards.start[order], block.shards.count[order])
        plan = BatchPlan.draw(self.setting.seed, self._turn[order], self.clients[order], shards.count, work)
        place, before = to_device(order, device), rows.clone()
        rows.copy_(before[place])
        context = None if block.context is None else block.context[place]
        means.engine.load(Block(shards, plan, block.keys[order], context=context))
        share = to_device((plan.count / np.maximum(plan.count.sum(axis=0), 1)).astype(np.float32), device)
        total = torch.zeros_like(self.weights, memory_format=torch.contiguous_format)
        for step, part in enumerate(share):
            k = int(np.count_nonzero(plan.steps > step))
            means.engine.gradients(step, k)
            total[:k].addcmul_(means.engine.grad[:k], part[:k, None])
        rows.copy_(before)
        found = torch.empty_like(total)
        found[place] = total
        return found

    def losses(self, models: Sequence[Tensor] | Tensor) -> Tensor:
        """Mean losses of models `[P]` on the clients' training samples, float64 `[K, models]`; 1 without samples.

        Raises:
            ValueError: a model has another shape.
        """
        self._refuse_within("losses")
        self._means.engine.refuse_unprotected("losses of models on the clients' samples")
        for one in models:
            if not isinstance(one, Tensor) or one.shape != self.broadcast.shape:
                what = f"shape {list(one.shape)}" if isinstance(one, Tensor) else type(one).__name__
                raise ValueError(f"losses was given {what}; expected models of shape {list(self.broadcast.shape)}")
        assert self._losses_of is not None, "a worker measures losses"
        return self._losses_of(list(models))

    def new_rows(self, name: str) -> Tensor:
        """A copy of the rows, `[K, P]`, that lasts for the round; a step has its part of it in `own`.

        Raises:
            ValueError: the algorithm declares fewer (`Algorithm.matrices`): memory is planned by what it declares.
        """
        self._refuse_within("new_rows")
        if name not in self.own and len(self.own) >= self._means.matrices:
            raise ValueError(
                f"new_rows makes matrix {name!r}, and the algorithm declares matrices = {self._means.matrices}; "
                f"declare {len(self.own) + 1} in its class"
            )
        made = self.rows.clone()
        self.own = {**self.own, name: made}
        return made

    def update(self) -> Tensor:
        """How far the clients got, `[K, P]`: the rows less the broadcast model, in place of the rows."""
        return self.rows.sub_(self.broadcast)

    def whole_shards(self) -> Iterator[tuple[Batch, Int64]]:
        """All training samples of each client, and the positions among them of its first sample of every local step."""
        self._means.engine.refuse_unprotected("whole shards")
        block = self._block
        for i, (start, count) in enumerate(zip(block.shards.start.tolist(), block.shards.count.tolist(), strict=True)):
            index = torch.arange(start, start + count, device=self.rows.device)
            yield gather(block.shards.pool, index, self._means.engine.info), block.plan.index[: self.steps[i], i, 0]

    def record(self, loss_sums: Float64) -> None:
        """Record these sums of the clients' losses over their local steps, `[K]`, where none were taken in a pass."""
        self._loss_sums.copy_(torch.from_numpy(loss_sums))
        self._counted[:] = self.steps

    def mean_losses(self) -> Float64:
        """The recorded mean training loss of each client, float64 `[K]`; NaN where it took no gradient."""
        found: Float64 = self._loss_sums.cpu().numpy() / np.where(self._counted > 0, self._counted, np.nan)
        return found

    @contextmanager
    def _pass(self, peers: Sequence[Tensor]) -> Iterator[None]:
        self._refuse_within("another pass")
        if self._gone_through:
            self._means.engine.refuse_unprotected("the same batches again, in another pass")
        self._gone_through = True
        began = time.perf_counter()
        self._means.engine.load(replace(self._block, peers=tuple(peers)) if peers else self._block)
        optimizer = self._means.optimizer
        if optimizer is not None:
            optimizer.start(self.weights, self.state)
        self._loss_sums.zero_()
        self._counted[:] = 0
        self.loading += time.perf_counter() - began
        self._outside = {name: self.__dict__.pop(name) for name in CUT}
        try:
            yield
        finally:
            self.__dict__.update(self._outside)
            self._outside = None
            if optimizer is not None and optimizer.keeps:
                optimizer.leave()

    def _stretches(self) -> Iterator[tuple[Step, range]]:
        """Local steps between which always the same clients train."""
        assert self._outside is not None, "within a pass"
        done = 0
        steps = self._block.plan.steps.tolist()
        for k in range(len(steps), 0, -1):  # the last client of the first k has the fewest steps of them
            if (last := steps[k - 1]) > done:
                yield Step(self, self._means, self._outside, k, self._loss_sums[:k]), range(done, last)
                done = last

    def _refuse_within(self, what: str) -> None:
        if self._outside is not None:
            raise RuntimeError(f"within a pass: {what} is for before or after it; end the pass first")
