"""The vectorised engine: K clients train at once, as the rows of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from raysim.data import DataInfo
from raysim.training.batches import model_input, target
from raysim.training.capture import CannotCapture, Vectorised, capture, room
from raysim.training.engine import Block, Engine, in_bf16
from raysim.training.layout import ALIGNMENT, ParameterLayout
from raysim.training.losses import ClientLoss, Loss, cross_entropy, element_weight, row_cross_entropy
from raysim.training.trial import random_batch, somewhere_near
from raysim.training.whole_step import GRADIENT_ALONE, LocalUpdate, NotWhole, WholeStep

_TRIED = ALIGNMENT + 1
"""Positions that are tried: by then, the alignment of whatever is computed in rows begins anew."""
_SMALL = 1 << 18
"""Values of a model whose rows can be tried so many times over; of a larger one, matrices are wide, and few are."""


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
        loss: Loss | ClientLoss,
        info: DataInfo,
        device: torch.device,
        rows: int,
        batch_size: int,
        *,
        compiled: bool = False,
        update: LocalUpdate | None = None,
        bf16: bool = False,
    ) -> None:
        """Capture the gradient, and check that a row's bits depend on nothing but the row.

        Args:
            module: the engine's from now on.
            rows: K.
            compiled: by `torch.compile`, which needs a C++ compiler and takes seconds; kept on disk for the next run.
            update: what is compiled along with the gradient, so that `take` takes whole steps.

        Raises:
            CannotCapture: the model cannot be trained this way; says why.
        """
        self.info, self.device, self.batch_size = info, device, batch_size
        self._layout, self._capacity, self._bf16 = layout, rows, bf16
        self._values = len(layout.segments)  # of the captured function's arguments; the batch comes after them
        loss = row_cross_entropy if loss is cross_entropy else loss
        self._context_shape: tuple[int, ...] | None = getattr(loss, "shape", None)
        module = module.to(device).train()
        self._allocate(_TRIED if layout.size <= _SMALL else 5)
        self.rows[:] = somewhere_near(layout, module)
        self._update = update or GRADIENT_ALONE
        self.not_whole = "" if update is not None else "nobody said what else a step does"
        for align_products in (False, True):
            self._gradient = self._captured(module, loss, align_products)
            self._compiled = self._compile() if compiled else None
            if (fault := self._fault()) is None:
                break
        else:
            raise CannotCapture(fault)
        self._allocate(max(rows, 2))

    def _allocate(self, width: int) -> None:
        self.rows = torch.zeros((width, self._layout.size), device=self.device)
        self.grad = torch.zeros((width, self._layout.trainable), device=self.device)
        self._turn: _Turn | None = None
        self._known_views: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self._x = room(width, (self.batch_size, *self.info.input_shape), self.rows)
        self._spaced = not self._x.is_contiguous() and self.info.input_kind != "tokens"

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def compiled(self) -> bool:
        """Whether steps, or gradients at least, are compiled."""
        return self._compiled is not None

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
        context = block.context
        self._context = (
            None if context is None else context.repeat(2, *(1,) * (context.ndim - 1)) if k == 1 else context
        )
        self._ends, self._turn = block.plan.steps.tolist(), None

    def gradients(self, step: int, k: int) -> Tensor:
        turn = self._at(step, k)
        if self._compiled is not None:
            return self._compiled_gradients(self._compiled, step, turn)
        *grads, losses = self._gradient(*turn.values, *self._batch(step, turn))
        # A companion that has finished keeps its last gradient.
        torch._foreach_copy_(turn.places, grads if k > 1 else [grad[:1] for grad in grads])
        return losses if k > 1 else losses[:1]

    def take(self, steps: range, losses: Tensor, broadcast: Tensor, lr: float) -> bool:
        step, optimizer = self._compiled, self._update.optimizer
        if step is None or self.not_whole:
            return False
        k, trainable = len(losses), self._layout.trainable
        turn = self._at(steps.start, k)
        factors = step.factors(steps.stop, lr)
        state = [] if optimizer is None else [kept[:k] for kept in optimizer.state]
        rows, grad, found = self.rows[:k], self.grad[:k], losses
        if k == 1:  # a twin keeps it company; nobody comes after the last one, so its state can stay with the two
            rows, found = rows.repeat(2, 1), losses.repeat(2)
            grad, state = grad.repeat(2, 1), [kept.repeat(2, 1) for kept in state]
        for number in steps:
            step(rows, grad, found, broadcast, factors[number], self._batch(number, turn), state)
        if k == 1:
            self.rows[:1, :trainable], self.grad[:1], losses[:] = rows[:1, :trainable], grad[:1], found[:1]
        return True

    def _compiled_gradients(self, code: WholeStep, step: int, turn: _Turn) -> Tensor:
        k = turn.k
        rows, grad = (
            (self.rows[:k], self.grad[:k]) if k > 1 else (self.rows[:1].repeat(2, 1), self.grad[:1].repeat(2, 1))
        )
        losses = torch.zeros(len(rows), dtype=torch.float64, device=self.device)
        code(rows, grad, losses, rows[0], code.factors(1, 0.0)[0], self._batch(step, turn), ())
        if k == 1:
            self.grad[:1] = grad[:1]
        return losses[:k]

    def _at(self, step: int, k: int) -> _Turn:
        """The steps from this one on in which the first k clients train: taken apart at once, not one by one."""
        turn = self._turn
        if turn is None or turn.k != k or step not in turn.steps:
            width, steps = max(k, 2), range(step, max(self._ends[k - 1], step + 1))
            part = slice(steps.start, steps.stop), slice(width)
            turn = self._turn = _Turn(
                k,
                steps,
                *self._views(k, width),
                self._index[part].reshape(len(steps), -1).unbind(),
                self._y[part].unbind(),
                self._share[part].unbind(),
                () if self._context is None else (self._context[:width],),
                self._x[:width],
            )
        return turn

    def _views(self, k: int, width: int) -> tuple[list[Tensor], list[Tensor]]:
        """The first rows' values, and the places of their gradients; compiled code has its own."""
        if self._compiled is None and k not in self._known_views:
            views = self._layout.views
            self._known_views[k] = list(views(self.rows[:width]).values()), list(views(self.grad[:k]).values())
        return self._known_views.get(k, ([], []))

    def _batch(self, step: int, turn: _Turn) -> tuple[Tensor, ...]:
        """x, y and share of a step, `[width, B, …]`, and the clients' context if there is one; x until the next one."""
        i, stored = step - turn.steps.start, self._samples.x
        room = turn.x
        if stored.dtype == room.dtype and self.info.input_kind == "real" and not self._spaced:
            torch.index_select(stored, 0, turn.index[i], out=room.view(-1, *self.info.input_shape))
            return room, turn.y[i], turn.share[i], *turn.context
        x = model_input(stored.index_select(0, turn.index[i]), self.info).view(room.shape)
        # Every client's batch begins on a boundary of its own.
        return room.copy_(x) if self._spaced else x, turn.y[i], turn.share[i], *turn.context

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

    def _compile(self) -> WholeStep:
        most = len(self.rows)
        x, *rest = self._example(most)[self._values :]
        example = [self.rows, self._x.copy_(x) if self._spaced else x, *rest]
        try:
            if not self.not_whole:
                return WholeStep(self._gradient, self._layout, self._update, example)
        except NotWhole as reason:
            self.not_whole = str(reason)
        try:
            return WholeStep(self._gradient, self._layout, GRADIENT_ALONE, example)
        except NotWhole as reason:
            raise CannotCapture(str(reason)) from reason

    def _captured(self, module: nn.Module, loss: Loss | ClientLoss, align_products: bool) -> Vectorised:
        names = [segment.name for segment in self._layout.segments]
        parameters = len(self._layout.parameters)

        def elements_of(
            values: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor, context: Sequence[Tensor]
        ) -> Tensor:
            given = dict(zip(names, (*values, *buffers), strict=True))
            used = dict(given)
            forward = partial(functional_call, module, used)
            elements = loss(in_bf16(forward, x) if self._bf16 else forward(x), y, *context)
            changed = [name for name in names if used[name] is not given[name]]
            if changed:
                raise CannotCapture(f"its forward pass changes {changed[0]!r}")
            return elements

        def of_one(
            values: Sequence[Tensor], buffers: Sequence[Tensor], x: Tensor, y: Tensor, share: Tensor, *context: Tensor
        ) -> tuple[Tensor, ...]:
            elements, pull_back = vjp(partial(elements_of, buffers=buffers, x=x, y=y, context=context), values)[:2]
            weight = element_weight(elements, share)
            if elements.numel() != share.numel():  # one loss for all targets of a sample
                weight = weight * (share.numel() / elements.numel())
            (grads,) = pull_back(weight)
            return (*grads, (weight * elements).sum())

        def function(*arguments: Tensor) -> tuple[Tensor, ...]:
            values, buffers = arguments[:parameters], arguments[parameters : self._values]
            found: tuple[Tensor, ...] = vmap(of_one, randomness="error")(values, buffers, *arguments[self._values :])
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
        given = [x, y, share]
        if self._context_shape is not None:
            given.append(torch.linspace(0.5, 1.5, prod(self._context_shape)).view(self._context_shape))
        batch = (one.to(self.device).expand(k, *one.shape).clone() for one in given)
        return [*values, *batch]

    def _fault(self) -> str | None:
        """Why a step depends on its position, on k, or on what a batch is filled up with; None if it does not.

        What is tried is the same for every K, so that K decides nothing.
        """
        most = len(self.rows)
        x, *rest = self._example(most)[self._values :]
        if self._spaced:
            x = self._x.copy_(x)

        def outcome(k: int) -> Tensor:
            batch = [one[:k] for one in (x, *rest)]
            if self._compiled is not None:
                return self._compiled.outcome(k, [self.rows, *batch])
            *grads, _ = self._gradient(*self._layout.views(self.rows[:k]).values(), *batch)
            return torch.cat([grad.flatten(1) for grad in grads], 1)

        first = outcome(most)[0]

        def differs(k: int) -> bool:
            return not torch.equal(outcome(k), first.expand(k, -1))

        last = x[:, -1].clone()
        x[:, -1] = x[:, 0]
        if self.batch_size > 1 and differs(2):
            return "the samples of a batch influence each other (as in batch normalisation)"
        x[:, -1] = last
        if any(differs(k) for k in {2, min(3, most), most // 2 + 1, most}):
            return "a client's gradient would depend on its place among the others, in the last bits"
        return None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Steps in which the same k clients train: their values `[max(k, 2), …]`, the gradients' places `[k, …]`, and, for
    each step, what its batch is made of; `context` is what the loss is told, `x` where the samples are put."""

    k: int
    steps: range
    values: list[Tensor]
    places: list[Tensor]
    index: tuple[Tensor, ...]
    y: tuple[Tensor, ...]
    share: tuple[Tensor, ...]
    context: tuple[Tensor, ...]
    x: Tensor
