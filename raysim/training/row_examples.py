"""What the gradient of clients in rows is captured and tried with: values and batches made up for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from raysim.data import DataInfo
from raysim.training.layout import ParameterLayout
from raysim.training.row_batches import RowBatches
from raysim.training.trial import random_batch


@dataclass(frozen=True, slots=True)
class RowExamples:
    """Arguments of the captured function for k clients, always the same.

    Attributes:
        row: the model of each `[P]`, on the training device.
        peers: other models that the loss looks at.
        context: shape of what the loss is told about a client, if it is told anything.
        apart: see `RowBatches`.
    """

    info: DataInfo
    batch_size: int
    layout: ParameterLayout
    row: Tensor
    peers: int
    context: tuple[int, ...] | None
    apart: bool

    def all(self, k: int) -> list[Tensor]:
        """Every argument."""
        rows = self.row.expand(k, -1).clone()
        return [*self.layout.views(rows).values(), *self.of_peers(k), *self.batch(k)]

    def beside_values(self, k: int, placed: Sequence[Tensor]) -> list[Tensor]:
        """What comes after the clients' own values; the batch is that of the first k of those that are placed."""
        return [*self.of_peers(k), *(one[:k] for one in placed)]

    def batch(self, k: int) -> list[Tensor]:
        """x, y, share and context: k clients with the same batch, whose last sample weighs nothing."""
        x, y = random_batch(self.info, self.batch_size)
        share = torch.ones(y.shape)
        if self.batch_size > 1:
            share[-1] = 0
        share /= max(prod(self.info.target_shape), 1) if self.apart else share.sum()
        given = [x, y, share]
        if self.context is not None:
            given.append(torch.linspace(0.5, 1.5, prod(self.context)).view(self.context))
        return [one.to(self.row.device).expand(k, *one.shape).clone() for one in given]

    def placed(self, k: int, batches: RowBatches) -> list[Tensor]:
        """The batch with the inputs where batches lie in training."""
        x, *rest = self.batch(k)
        return [batches.placed(x), *rest]

    def of_peers(self, k: int) -> list[Tensor]:
        """Values of other models than the row, for k clients, where the loss looks at some."""
        some = [self.row.expand(k, -1) * (1.5 - number) for number in range(self.peers)]
        return [one for rows in some for one in self.layout.views(rows).values()]
