"""The vectorised engine: K clients train at once, as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from raysim.data import DataInfo
from raysim.training.batches import Shard, model_input, target
from raysim.training.capture import CannotCapture, Vectorised, capture, room
from raysim.training.engine import Block, Engine
from raysim.training.layout import ParameterLayout
from raysim.training.losses import Loss, cross_entropy, element_weight, row_cross_entropy


class RowsEngine(Engine):
    """All rows of a block in one go: the gradient of the loss, vectorised over clients and captured as a graph.

    Every batch is as long as `batch_size`; a short one is filled up with samples that weigh nothing. A block of one has
    an idle companion, since kernels treat a single row in their own way.
    """

    name = "rows"

    def __init__(
        self,
        module: nn.Module,
        layout: ParameterLayout,
        loss: Loss,
        info: DataInfo,
        device: torch.device,
        rows: int,
        batch_size: int,
    ) -> None:
        """Capture the gradient, and check that a row's bits depend on nothing but the row.

        Args:
            module: the engine's from now on.
            rows: K.

        Raises:
            CannotCapture: the model cannot be trained this way; says why.
        """
        self.info, self.device, self.batch_size = info, device, batch_size
        self.rows = torch.zeros((max(rows, 2), layout.size), device=device)
        self.grad = torch.zeros((max(rows, 2), layout.trainable), device=device)
        self._layout, self._capacity = layout, rows
        self._views: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        buffer = room(len(self.rows), (batch_size, *info.input_shape), self.rows)
        self._x = None if buffer.is_contiguous() or info.input_kind == "tokens" else buffer
        loss = row_cross_entropy if loss is cross_entropy else loss
        self._gradient = self._captured(module.to(device).train(), loss)
        self._check()

    @property
    def capacity(self) -> int:
        return self._capacity

    def load(self, block: Block) -> None:
        k, width = len(block.shards), max(len(block.shards), 2)
        sizes = np.array([len(shard) for shard in block.shards])
        start = np.minimum(
            np.cumsum(sizes) - sizes, max(int(sizes.sum()) - 1, 0)
        )  # an empty shard points at any sample
        index, count = block.plan.index + start[:, None], block.plan.count
        if k == 1:
            index, count = np.repeat(index, 2, axis=1), np.repeat(count, 2, axis=1)
            self.rows[1] = self.rows[0]
        self._samples = Shard.join(block.shards)
        self._index = torch.from_numpy(index).to(self.device, non_blocking=True)
        chosen = self._index.flatten()
        y = target(self._samples.y.index_select(0, chosen), self.info)
        self._y = y.view(-1, width, self.batch_size, *y.shape[1:])
        self._share = self._shares(torch.from_numpy(count).to(self.device, non_blocking=True), chosen)

    def gradients(self, step: int, k: int) -> Tensor:
        width = max(k, 2)
        x = model_input(self._samples.x.index_select(0, self._index[step, :width].view(-1)), self.info)
        x = x.view(width, self.batch_size, *x.shape[1:])
        if self._x is not None:  # every client's batch begins on a boundary of its own
            x = self._x[:width].copy_(x)
        values, _ = self._views_of(width)
        *found, losses = self._gradient(*values, x, self._y[step, :width], self._share[step, :width])
        # Where a companion is idle, its gradient stays what it was.
        torch._foreach_copy_(self._views_of(k)[1], [grad[:k] for grad in found] if k < width else found)
        return losses[:k]

    def _shares(self, count: Tensor, chosen: Tensor) -> Tensor:
        """What each target counts in its batch's mean loss: `[S, K, B, *target_shape]`."""
        here = (torch.arange(self.batch_size, device=self.device) < count.unsqueeze(-1)).to(torch.float32)
        samples, weight, targets = here.shape, self._samples.weight, self.info.target_shape
        here = here.view(*samples, *(1,) * len(targets)).expand(*samples, *targets)
        if weight is not None:
            weight = weight.index_select(0, chosen).view(*samples, *weight.shape[1:])
            here = here * weight.view(*weight.shape, *(1,) * (here.ndim - weight.ndim))
        total = here.flatten(2).sum(2).view(*samples[:2], *(1,) * (here.ndim - 2))
        return here / (total + (total == 0))

    def _views_of(self, width: int) -> tuple[list[Tensor], list[Tensor]]:
        """The first rows' parameters and buffers, and their gradients' places."""
        if width not in self._views:
            values = list(self._layout.views(self.rows[:width]).values())
            self._views[width] = values, list(self._layout.views(self.grad[:width]).values())
        return self._views[width]

    def _captured(self, module: nn.Module, loss: Loss) -> Vectorised:
        names = [segment.name for segment in self._layout.segments]
        parameters = len(self._layout.parameters)

        def elements_of(values: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
            given = dict(zip(names, (*values, *buffers), strict=True))
            used = dict(given)
            elements = loss(functional_call(module, used, (x,)), y)
            changed = [name for name in names if used[name] is not given[name]]
            if changed:
                raise CannotCapture(f"its forward pass changes {changed[0]!r}")
            return elements

        def of_one(
            values: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor, share: Tensor
        ) -> tuple[Tensor, ...]:
            elements, pull_back = vjp(partial(elements_of, buffers=buffers, x=x, y=y), values)[:2]
            weight = element_weight(elements, share)
            if elements.numel() != share.numel():  # one loss for all targets of a sample
                weight = weight * (share.numel() / elements.numel())
            (grads,) = pull_back(weight)
            return (*grads, (weight * elements).sum())

        def function(*arguments: Tensor) -> tuple[Tensor, ...]:
            values, buffers = arguments[:parameters], arguments[parameters:-3]
            found: tuple[Tensor, ...] = vmap(of_one, randomness="error")(values, buffers, *arguments[-3:])
            return found

        kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
        self.rows[:] = self._layout.pack(module)
        captured = capture(function, self._example)
        for name, buffer in module.named_buffers():
            if not torch.equal(buffer, kept[name]):
                raise CannotCapture(f"its forward pass changes {name!r}")
        return captured

    def _example(self, k: int) -> list[Tensor]:
        """Arguments of the captured function: k clients with the same batch, whose last sample weighs nothing."""
        values = self._layout.views(self.rows[:1].expand(k, -1).clone()).values()
        x, y = random_batch(self.info, self.batch_size)
        share = torch.ones(y.shape)
        if self.batch_size > 1:
            share[-1] = 0
        share /= share.sum()
        batch = (one.to(self.device).expand(k, *one.shape).clone() for one in (x, y, share))
        return [*values, *batch]

    def _check(self) -> None:
        """A row's gradient is the same at every position, for every k, and whatever a batch is filled up with."""
        ks = sorted({2, 3, len(self.rows) // 2 + 1, len(self.rows)} - {1})
        *values, x, y, share = self._example(max(ks))
        if self._x is not None:
            x = room(len(x), x.shape[1:], x).copy_(x)
        first = [one[0].clone() for one in self._gradient(*(one[:2] for one in (*values, x, y, share)))]

        def same(found: Sequence[Tensor]) -> bool:
            return all(bool(torch.equal(many, one.expand_as(many))) for many, one in zip(found, first, strict=True))

        last = x[:, -1].clone()
        x[:, -1] = x[:, 0]
        if self.batch_size > 1 and not same(self._gradient(*(one[:2] for one in (*values, x, y, share)))):
            raise CannotCapture("the samples of a batch influence each other (as in batch normalisation)")
        x[:, -1] = last
        for k in ks:
            if not same(self._gradient(*(one[:k] for one in (*values, x, y, share)))):
                raise CannotCapture("a client's gradient would depend on its place among the others in the last bits")


def random_batch(info: DataInfo, size: int) -> tuple[Tensor, Tensor]:
    """Samples of the right shapes, always the same: `[size, *input_shape]` and `[size, *target_shape]`."""
    generator = torch.Generator().manual_seed(0)
    shape, wanted = (size, *info.input_shape), (size, *info.target_shape)
    if info.input_kind == "tokens":
        x = torch.randint(info.vocabulary or 1, shape, generator=generator)
    else:
        draw = torch.rand if info.input_kind == "pixels" else torch.randn
        x = draw(shape, generator=generator)
    if info.task == "classification":
        return x, torch.randint(info.classes or 1, wanted, generator=generator)
    return x, torch.randn(wanted, generator=generator)
