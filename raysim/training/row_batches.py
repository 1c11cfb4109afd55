"""What the rows of a block see in each step: the samples of all clients side by side, short batches filled up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from raysim.data import DataInfo
from raysim.training.batches import model_input, target
from raysim.training.capture import room
from raysim.training.engine import Block
from raysim.training.transfer import to_device

_GATHERED = 1 << 18
"""Values of samples that are gathered in one call, for this step and the next ones: a cache has room for them."""


class RowBatches:
    """Gathers the batches of a block into memory that is used again and again.

    Every batch is as long as `batch_size`, and every client's begins on a boundary of its own; what fills a short one
    up has a share of zero.
    """

    def __init__(self, info: DataInfo, batch_size: int, width: int, like: Tensor, *, apart: bool = False) -> None:
        """For blocks of at most `width` rows, in memory like that of `like`.

        Args:
            apart: whether shares are those of a sample's own loss, its mean over its targets, not of the batch's mean;
                of a sample with a single target the share is its weight.
        """
        self._apart = apart
        self._info, self._batch_size, self._device = info, batch_size, like.device
        shape = (batch_size, *info.input_shape)
        self._x = room(max(width, _GATHERED // prod(shape)), shape, like)  # of as many steps as it holds
        self._spaced = not self._x.is_contiguous() and info.input_kind not in ("tokens", "record")

    def load(self, block: Block, width: int) -> None:
        """Take up a block; where `width` is more rows than it has clients, the last one's samples are there again."""
        self._samples = block.shards.pool
        # An empty shard points at a sample of another: who takes no steps may still keep the last one company.
        start = np.where(block.shards.count > 0, block.shards.start, block.shards.start[0])
        index, count = block.plan.index + start[:, None], block.plan.count
        if len(block.keys) < width:
            beside = np.minimum(np.arange(width), len(block.keys) - 1)
            index, count = np.take(index, beside, axis=1), np.take(count, beside, axis=1)
        self._index = to_device(index, self._device)
        chosen = self._index.flatten()
        y = target(self._samples.y.index_select(0, chosen), self._info)
        self._y = y.view(-1, width, self._batch_size, *y.shape[1:])
        self._share = self._shares(to_device(count, self._device), chosen)

    def of(self, steps: range, width: int) -> Stretch:
        """The batches of the first rows in these steps, taken apart at once."""
        part = slice(steps.start, steps.stop), slice(width)
        return Stretch(self, steps, self._index[part], self._y[part].unbind(), self._share[part].unbind())

    def gather(self, index: Tensor) -> Sequence[Tensor]:
        """The samples `index[s]`, `[width, B]`, of some steps, as many as there is room for: each `[width, B, …]`."""
        stored, width = self._samples.x, index.shape[1]
        steps = min(index.shape[0], self._x.shape[0] // width)
        place, chosen = self._x[: steps * width], index[:steps].flatten()
        if stored.dtype == place.dtype and self._info.input_kind == "real" and not self._spaced:
            torch.index_select(stored, 0, chosen, out=place.view(-1, *self._info.input_shape))
        else:
            x = model_input(stored.index_select(0, chosen), self._info).view(place.shape)
            place = self.placed(x)
        return place.view(steps, width, *place.shape[1:]).unbind() if steps > 1 else (place,)

    def placed(self, x: Tensor) -> Tensor:
        """Samples `[rows, B, …]` with every client's on a boundary of its own."""
        return self._x[: len(x)].copy_(x) if self._spaced else x

    def _shares(self, count: Tensor, chosen: Tensor) -> Tensor:
        """What each target counts in its batch's mean loss: `[S, K, B, *target_shape]`."""
        here = (torch.arange(self._batch_size, device=self._device) < count.unsqueeze(-1)).to(torch.float32)
        samples, weight, targets = here.shape, self._samples.weight, self._info.target_shape
        here = here.view(*samples, *(1,) * len(targets)).expand(*samples, *targets)
        if weight is not None:
            weight = weight.index_select(0, chosen).view(*samples, *weight.shape[1:])
            here = here * weight.view(*weight.shape, *(1,) * (here.ndim - weight.ndim))
        if self._apart and not targets:
            return here
        lead = 3 if self._apart else 2
        total = here.flatten(lead).sum(lead).view(*samples[:lead], *(1,) * (here.ndim - lead))
        return here / (total + (total == 0))


@dataclass(slots=True)
class Stretch:
    """Steps in which the same rows take part. Of `x` there are the steps from the `gathered`-th on."""

    batches: RowBatches
    steps: range
    index: Tensor
    y: tuple[Tensor, ...]
    share: tuple[Tensor, ...]
    x: Sequence[Tensor] = ()
    gathered: int = 0

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """x, y and share of a step, `[width, B, …]`; x until the next one."""
        i = step - self.steps.start
        if not 0 <= i - self.gathered < len(self.x):
            self.gathered, self.x = i, self.batches.gather(self.index[i:])
        return self.x[i - self.gathered], self.y[i], self.share[i]


@dataclass(frozen=True, slots=True)
class Turn:
    """Steps in which the same k clients train: their values `[≥ k, …]`, companions among them, their parameters
    `[k, …]` where those are moved one by one, the values of other models, their batches, and what the loss is told."""

    k: int
    steps: range
    values: list[Tensor]
    moved: list[Tensor]
    peers: list[Tensor]
    batches: Stretch
    context: tuple[Tensor, ...]

    def batch(self, step: int) -> tuple[Tensor, ...]:
        """x, y and share of a step, `[≥ k, B, …]`, and the clients' context if there is one; x until the next."""
        return *self.batches.batch(step), *self.context
