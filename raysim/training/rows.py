"""The vectorised engine: K clients train at once, as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from raysim.data import DataInfo
from raysim.training.batches import model_input, target
from raysim.training.capture import CannotCapture, Vectorised, capture, room
from raysim.training.engine import Block, Engine, in_bf16
from raysim.training.layout import ALIGNMENT, ParameterLayout
from raysim.training.losses import Loss, cross_entropy, element_weight, row_cross_entropy

_TRIED = ALIGNMENT + 1
"""Positions that are tried: by then, the alignment of whatever is computed in rows begins anew."""
_SMALL = 1 << 18
"""Values of a model whose rows can be tried so many times over; of a larger one, matrices are wide, and few are."""

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of rows `[k, P]`, their gradients' place `[k, T]`, x, y and share `[k, B, …]`; returns the losses `[k]`."""


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
        *,
        compiled: bool = False,
        bf16: bool = False,
    ) -> None:
        """Capture the gradient, and check that a row's bits depend on nothing but the row.

        Args:
            module: the engine's from now on.
            rows: K.
            compiled: by `torch.compile`, which needs a C++ compiler and takes seconds; kept on disk for the next run.

        Raises:
            CannotCapture: the model cannot be trained this way; says why.
        """
        self.info, self.device, self.batch_size = info, device, batch_size
        self._layout, self._capacity, self._bf16 = layout, rows, bf16
        loss = row_cross_entropy if loss is cross_entropy else loss
        module = module.to(device).train()
        self._allocate(_TRIED if layout.size <= _SMALL else 5)
        self.rows[:] = _somewhere_near(layout, module)
        for align_products in (False, True):
            self._gradient = self._captured(module, loss, align_products)
            self._step: Step = self._compiled() if compiled else self._as_captured
            if (fault := self._fault()) is None:
                break
        else:
            raise CannotCapture(fault)
        self._allocate(max(rows, 2))

    def _allocate(self, width: int) -> None:
        self.rows = torch.zeros((width, self._layout.size), device=self.device)
        self.grad = torch.zeros((width, self._layout.trainable), device=self.device)
        self._views: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        buffer = room(width, (self.batch_size, *self.info.input_shape), self.rows)
        self._x = None if buffer.is_contiguous() or self.info.input_kind == "tokens" else buffer

    @property
    def capacity(self) -> int:
        return self._capacity

    def load(self, block: Block) -> None:
        k, width = len(block.keys), max(len(block.keys), 2)
        self._samples = block.shards.pool
        # An empty shard points at a sample of another: who takes no steps may still keep the last one company.
        start = np.where(block.shards.count > 0, block.shards.start, block.shards.start[0])
        index, count = block.plan.index + start[:, None], block.plan.count
        if k == 1:
            index, count = np.repeat(index, 2, axis=1), np.repeat(count, 2, axis=1)
            self.rows[1] = self.rows[0]
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
        y, share = self._y[step, :width], self._share[step, :width]
        if k == width:
            return self._step(self.rows[:k], self.grad[:k], x, y, share)
        idle = self.grad[k:width].clone()  # a companion that has finished keeps its last gradient
        losses = self._step(self.rows[:width], self.grad[:width], x, y, share)
        self.grad[k:width] = idle
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

    def _as_captured(self, rows: Tensor, grad: Tensor, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
        width = rows.shape[0]
        if width not in self._views:
            views = self._layout.views
            self._views[width] = list(views(self.rows[:width]).values()), list(views(self.grad[:width]).values())
        values, places = self._views[width]
        *grads, losses = self._gradient(*values, x, y, share)
        torch._foreach_copy_(places, grads)
        return losses

    def _compiled(self) -> Step:
        gradient, layout = self._gradient, self._layout

        def step(rows: Tensor, grad: Tensor, x: Tensor, y: Tensor, share: Tensor) -> Tensor:
            *grads, losses = gradient(*layout.views(rows).values(), x, y, share)
            torch._foreach_copy_(list(layout.views(grad).values()), grads)
            return losses

        # torch counts compilations by code object, and gives up after a few: this engine's are its own.
        step.__code__ = step.__code__.replace()
        compiled: Step = torch.compile(step, fullgraph=True)
        return compiled

    def _captured(self, module: nn.Module, loss: Loss, align_products: bool) -> Vectorised:
        names = [segment.name for segment in self._layout.segments]
        parameters = len(self._layout.parameters)

        def elements_of(values: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor) -> Tensor:
            given = dict(zip(names, (*values, *buffers), strict=True))
            used = dict(given)
            forward = partial(functional_call, module, used)
            elements = loss(in_bf16(forward, x) if self._bf16 else forward(x), y)
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
        captured = capture(function, self._example, align_products=align_products)
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

    def _fault(self) -> str | None:
        """Why a gradient depends on its position, on k, or on what a batch is filled up with; None if it does not.

        What is tried is the same for every K, so that K decides nothing.
        """
        most = len(self.rows)
        x, y, share = self._example(most)[-3:]
        if self._x is not None:
            x = self._x.copy_(x)
        for tensor in (self.rows, self.grad, x, y, share):
            torch._dynamo.mark_dynamic(tensor, 0)  # one compiled code for every k
        self._step(self.rows, self.grad, x, y, share)
        first = self.grad[0].clone()

        def differs(k: int) -> bool:
            self.grad.zero_()
            self._step(self.rows[:k], self.grad[:k], x[:k], y[:k], share[:k])
            return not torch.equal(self.grad[:k], first.expand(k, -1))

        last = x[:, -1].clone()
        x[:, -1] = x[:, 0]
        if self.batch_size > 1 and differs(2):
            return "the samples of a batch influence each other (as in batch normalisation)"
        x[:, -1] = last
        if any(differs(k) for k in {2, min(3, most), most // 2 + 1, most}):
            return "a client's gradient would depend on its place among the others, in the last bits"
        return None


def _somewhere_near(layout: ParameterLayout, module: nn.Module) -> Tensor:
    """A vector `[P]` like the module's, without the zeros and ones of first weights, with which rounding is exact."""
    row, generator = layout.pack(module), torch.Generator().manual_seed(1)
    for view in layout.views(row[: layout.trainable]).values():
        relative, absolute = torch.randn((2, *view.shape), generator=generator)
        view.mul_(1 + 0.1 * relative).add_(absolute, alpha=0.01)
    return row


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
