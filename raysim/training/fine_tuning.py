"""Models that are trained on a client's own samples before the client uses them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Bools, Int64
from raysim.training.batches import LocalWork, Shards
from raysim.training.clients import Clients
from raysim.training.engine import Engine
from raysim.training.inputs import PLAIN, BlockInputs, RoundSetting, Some
from raysim.training.optimizers import row_optimizer
from raysim.training.trainer import Trainer
from raysim.training.transfer import to_device

BEFORE_ANY_ROUND = 0
"""The round of whose key the order of samples is: a client has the same one whenever it fine-tunes."""


class FineTuner:
    """Takes steps of plain SGD from one model a client, as rows of an engine."""

    def __init__(
        self, engine: Engine, work: LocalWork, lr: float, clip_norm: float | None, moves: Bools | None = None
    ) -> None:
        """Fine-tune on this engine, whose `take` takes no steps.

        Args:
            lr: of the steps.
            moves: which columns `[P]` change; None is all of them.
        """
        self._work, self._lr = work, lr
        self._moves = None if moves is None else to_device(moves, engine.rows.device)
        self._trainer = Trainer(engine, row_optimizer(PLAIN), work, clip_norm, self.local)

    @property
    def capacity(self) -> int:
        """Clients that are fine-tuned at once."""
        return self._trainer.engine.capacity

    def tune(self, seed: int, clients: Int64, shards: Shards, models: Tensor, context: Tensor | None = None) -> Tensor:
        """The models `[k, P]` of at most `capacity` clients after fine-tuning, `[k, P]` in memory of its own.

        Args:
            context: what the training loss is told about each, `[k, …]`, where it is a `ClientLoss`.
        """
        order = np.argsort(-self._work.count(shards.count), kind="stable")
        some = Shards(shards.pool, shards.start[order], shards.count[order])
        place = to_device(order, models.device)
        begun = models.index_select(0, place)
        setting = RoundSetting(seed, BEFORE_ANY_ROUND, self._lr)
        inputs = BlockInputs(state={"model": begun}, context=None if context is None else context[place])
        done = self._trainer.train(setting, begun[0], clients[order], some, inputs)
        tuned = torch.empty_like(begun)
        tuned[place] = done.sent["model"]
        return tuned

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        """Steps from the models; what does not change stays, running statistics too, which move without a gradient."""
        c.rows.copy_(c.state["model"])
        if self._moves is None:
            c.descend()
            return {"model": c.rows}
        c.descend(self.correct)
        return {"model": torch.where(self._moves, c.rows, c.state["model"])}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        """Leave alone what does not change."""
        assert self._moves is not None
        grad.masked_fill_(~self._moves[: b.trainable], 0.0)
