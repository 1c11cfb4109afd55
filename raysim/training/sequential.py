"""The engine that trains one client at a time, by autograd on the module itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysim import keyed
from raysim.data import DataInfo
from raysim.models.modes import TrainingModes
from raysim.training.batches import Batch, gather
from raysim.training.channels_last import channels_last, wants_channels_last
from raysim.training.engine import Block, Engine, generator_of, in_bf16
from raysim.training.examples import ExamplePrivacy, NoisySums, clipped
from raysim.training.features import FeatureLoss, FeatureTerm
from raysim.training.foreach import add_each, copy_each
from raysim.training.layout import ParameterLayout
from raysim.training.losses import ClientLoss, Loss, element_weight, weighted_mean
from raysim.training.model_loss import ModelLoss
from raysim.training.recomputing import recompute
from raysim.training.transfer import to_device


@dataclass(frozen=True, slots=True)
class Saving:
    """Memory that is saved, mostly at the price of time.

    Attributes:
        accumulation: micro-batches that a batch is computed in.
        checkpointing: submodules whose activations are computed anew in the backward pass: globs of their names, or
            all that are in a row (`raysim.training.recomputing`).
        cut: whether batches are cut to their longest sequence (`raysim.training.length_groups`).
    """

    accumulation: int = 1
    checkpointing: bool | tuple[str, ...] = False
    cut: bool = False


NO_SAVING = Saving()


class _Slot:
    """Where a module holds a buffer. Its forward may put another tensor there (`self.ema = 0.9 * self.ema + …`), which
    would no longer be a view of the row, and would last until the next client."""

    def __init__(self, module: nn.Module, name: str, buffer: Tensor) -> None:
        holder, _, self._key = name.rpartition(".")
        self._held, self._buffer = module.get_submodule(holder)._buffers, buffer

    def collect(self) -> None:
        """Take over the value of another tensor, and put the buffer back."""
        found = self._held[self._key]
        if found is not self._buffer and found is not None and found.shape == self._buffer.shape:
            self._buffer.copy_(found.detach())
            self.restore()

    def restore(self) -> None:
        """Put the buffer back."""
        self._held[self._key] = self._buffer


class SequentialEngine(Engine):
    """One client at a time: the module, which is the engine's from now on, has the single row as its parameters."""

    name = "sequential"

    def __init__(
        self,
        module: nn.Module,
        layout: ParameterLayout,
        loss: Loss | ClientLoss,
        info: DataInfo,
        device: torch.device,
        *,
        bf16: bool = False,
        feature_loss: FeatureLoss | None = None,
        saving: Saving = NO_SAVING,
        privacy: ExamplePrivacy | None = None,
    ) -> None:
        self.module, self.bf16, self._modes = module.to(device), bf16, TrainingModes(module)
        self._loss, self.info, self.device, self._pieces = loss, info, device, saving.accumulation
        self._channels_last = wants_channels_last(module, info, device)  # while it has its values
        self.rows = torch.zeros((1, layout.size), device=device)
        self.grad = torch.zeros((1, layout.trainable), device=device)
        layout.bind(self.rows[0], module)
        self._generator = generator_of(device)
        by_name = dict(module.named_parameters())
        self._parameters = [by_name[segment.name] for segment in layout.parameters]
        self._weights = [parameter.detach() for parameter in self._parameters]  # a step is no part of autograd's graph
        self._grad_views = list(layout.views(self.grad[0]).values())
        self._spare_views: list[Tensor] = []
        self._sparse: bool | None = None  # whether gradients are (`nn.Embedding(sparse=True)`); known after a step
        self._layout = layout
        self.noisy = None if privacy is None else NoisySums(privacy, layout, device)
        self._features = None if feature_loss is None else FeatureTerm(module, feature_loss)
        recompute(module, saving.checkpointing)
        # What a module keeps outside the rows (integer buffers, constants) starts every client from the same values.
        inside = {segment.name for segment in layout.buffers}
        self._kept = [(b, b.clone()) for name, b in module.named_buffers() if name not in inside]
        self._buffers = [_Slot(module, name, buffer) for name, buffer in module.named_buffers()]

    def load(self, block: Block) -> None:
        plan, self._pool = block.plan, block.shards.pool
        self._context: tuple[Tensor, ...] = () if block.context is None else (block.context[0],)
        index = to_device(plan.index[:, 0] + block.shards.start, self.device)
        self._peers = [self._layout.views(peer[0]) for peer in block.peers]
        self._batches = [batch[:size] for batch, size in zip(index.unbind(), plan.count[:, 0].tolist(), strict=True)]
        self._size = plan.index.shape[2]
        if self.noisy is not None:
            self.noisy.load(block.shards, block.noise)
        self._modes.train()
        self._key = int(block.keys[0])
        self._generator.manual_seed(self._key)
        for slot in self._buffers:
            slot.restore()
        for buffer, initial in self._kept:
            buffer.copy_(initial)

    def alternate(self) -> None:
        super().alternate()
        other = self._spare_views or list(self._layout.views(self.grad[0]).values())
        self._grad_views, self._spare_views = other, self._grad_views

    def gradients_at(self, point: Tensor, step: int, k: int) -> Tensor:
        self.refuse_unprotected("gradients of a batch at other weights")
        drawn, counters = self._generator.get_state(), [buffer.clone() for buffer, _ in self._kept]
        found = super().gradients_at(point, step, k)
        self._generator.set_state(drawn)
        for (buffer, _), counter in zip(self._kept, counters, strict=True):
            buffer.copy_(counter)
        return found

    def gradients(self, step: int, k: int) -> Tensor:
        if self.noisy is not None:
            return self.noisy.finish(step, self.grad, self._clipped_sums(step, self.noisy.privacy.clip))
        if self._pieces > 1:
            return self._accumulated(step)
        loss, grads = self._differentiated(gather(self._pool, self._batches[step], self.info))
        copy_each(self._grad_views, grads)
        return loss

    def descend(self, step: int, k: int, lr: float) -> Tensor:
        if self.noisy is not None:
            return super().descend(step, k, lr)
        if self._pieces > 1:
            loss, grads = self._accumulated(step), self._grad_views
        else:
            loss, grads = self._differentiated(gather(self._pool, self._batches[step], self.info))
        add_each(self._weights, grads, alpha=-lr)
        return loss

    def losses_at(self, point: Tensor, step: int, k: int) -> Tensor:
        self.refuse_unprotected("losses of a batch")
        mine, drawn = self.rows.clone(), self._generator.get_state()
        counters = [buffer.clone() for buffer, _ in self._kept]
        self.rows[:1] = point
        self._generator.manual_seed(keyed.integer(self._key, keyed.Purpose.MODULE, step))
        with torch.no_grad():
            parts = [self._loss_of(batch, rest) for batch, rest in self._micro_batches(step)]
        for slot in self._buffers:
            slot.collect()
        self._generator.set_state(drawn)
        for (buffer, _), counter in zip(self._kept, counters, strict=True):
            buffer.copy_(counter)
        self.rows.copy_(mine)
        return torch.stack(parts).sum().view(1)

    def _accumulated(self, step: int) -> Tensor:
        """The mean loss `[1]` of a step in micro-batches, whose gradients add up in `grad`."""
        losses, add = [], copy_each
        for batch, others in self._micro_batches(step):
            loss, grads = self._differentiated(batch, others)
            add(self._grad_views, grads)
            losses.append(loss)
            add = add_each
        return torch.stack(losses).sum(dim=0)

    def _clipped_sums(self, step: int, clip: float) -> Tensor:
        """The sum of the samples' losses `[1]`; that of their clipped gradients adds up in `grad`, one by one."""
        self.grad.zero_()
        total = self.grad.new_zeros(1)
        for index in torch.split(self._batches[step], 1):
            batch = gather(self._pool, index, self.info)
            own = batch.weight if batch.weight is not None and batch.weight.ndim == 1 else None
            loss, grads = self._differentiated(Batch(batch.x, batch.y, batch.weight if own is None else None))
            if own is not None:  # of a sample with a single target
                loss, grads = loss * own, [grad * own for grad in grads]
            add_each(self._grad_views, clipped(grads, clip))
            total += torch.where(loss.isfinite(), loss, 0.0)
        return total

    def _micro_batches(self, step: int) -> Iterator[tuple[Batch, _Rest]]:
        """Equal parts of a batch; of one that is short there may be fewer."""
        whole = self._batches[step]
        weight = None if self._pool.weight is None else self._pool.weight.index_select(0, whole)
        for index in torch.split(whole, -(-self._size // self._pieces)):
            yield gather(self._pool, index, self.info), _Rest(len(whole), weight)

    def _differentiated(self, batch: Batch, rest: _Rest | None = None) -> tuple[Tensor, list[Tensor]]:
        """The mean loss `[1]` of a batch, or its part of that of a larger one, and the gradients, one tensor a
        parameter."""
        loss = self._loss_of(batch, rest)
        grads = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        if self._sparse is None:
            self._sparse = any(grad.is_sparse for grad in grads)
        if self._sparse:
            grads = tuple(grad.to_dense() for grad in grads)
        for slot in self._buffers:
            slot.collect()
        return loss.detach().view(1), list(grads)

    def _loss_of(self, batch: Batch, rest: _Rest | None) -> Tensor:
        """The mean loss of a batch, or its part of that of a larger one."""
        x = channels_last(batch.x) if self._channels_last else batch.x
        if isinstance(self._loss, ModelLoss):
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
                elements = self._loss.of(self.module, x, batch.y)
        else:
            output = self.module(x) if not self.bf16 else in_bf16(self.module, x)
            elements = self._loss(output, batch.y, *self._context)
        if self._features is not None and self._peers:
            penalty = self._features.penalty(x, self._peers, bf16=self.bf16)
            elements = elements + penalty.view(-1, *(1,) * (elements.ndim - 1))
        if elements.ndim == 0:  # of the batch as a whole, whose samples have no weights
            return elements if rest is None else elements * (len(batch.y) / rest.count)
        return weighted_mean(elements, batch.weight) if rest is None else rest.part(elements, batch.weight)


@dataclass(frozen=True, slots=True)
class _Rest:
    """The batch that a micro-batch belongs to.

    Attributes:
        count: its samples.
        weight: of all of them.
    """

    count: int
    weight: Tensor | None

    def part(self, elements: Tensor, weight: Tensor | None) -> Tensor:
        """What the losses of a micro-batch add to the weighted mean of the batch."""
        whole = elements.new_empty((self.count, *elements.shape[1:]))
        if self.weight is None:
            return elements.sum() / whole.numel()
        total = element_weight(whole, self.weight).sum()
        return (element_weight(elements, weight) / (total + (total == 0)) * elements).sum()
