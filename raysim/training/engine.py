"""Engines: how the gradients of a block of clients are computed.

An engine owns the `[K, P]` matrix in which its clients train and knows how to get the gradients of its first k rows.
Which samples, which optimiser and which algorithm are the trainer's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from raysim.arrays import Int64
from raysim.data import DataInfo
from raysim.models.modes import TrainingModes
from raysim.training.batches import BatchPlan, Shards, gather
from raysim.training.channels_last import channels_last, wants_channels_last
from raysim.training.features import FeatureLoss, FeatureTerm
from raysim.training.foreach import add_each, copy_each
from raysim.training.inputs import Correction, Rates
from raysim.training.layout import ParameterLayout
from raysim.training.losses import ClientLoss, Loss, weighted_mean
from raysim.training.transfer import to_device


@dataclass(frozen=True, slots=True)
class Block:
    """K clients that train together, ordered by falling number of steps.

    Attributes:
        shards: their samples.
        plan: the samples of their steps.
        keys: for each, a key for what its module draws by itself, int64 `[K]`.
        peers: other models `[K, P]` that its representations are compared with.
        context: what the loss is told about each, float32 `[K, …]`, where it is a `ClientLoss`.
    """

    shards: Shards
    plan: BatchPlan
    keys: Int64
    peers: tuple[Tensor, ...] = ()
    context: Tensor | None = None


class Engine(ABC):
    """Computes gradients of K clients at once.

    Contract: `rows` is `[K, P]` float32 on the training device, every row on a 64-byte boundary; it stays the same
    tensor for life; `grad` is one of two that take turns (`alternate`). `gradients` reads the first k rows, leaves the
    parameters alone, may write the float buffers' columns (running statistics), and writes `grad[:k]`, `[K, T]`,
    padding included (zero). A row's bits depend neither on the other rows nor on its position nor on k.
    """

    name: str
    info: DataInfo
    rows: Tensor
    grad: Tensor
    _spare: Tensor | None = None

    @property
    def capacity(self) -> int:
        """K: clients that train at once."""
        return len(self.rows)

    @abstractmethod
    def load(self, block: Block) -> None:
        """Take a block of at most K clients."""

    @abstractmethod
    def gradients(self, step: int, k: int) -> Tensor:
        """Gradients of the mean loss over the samples of this step, of the block's first k clients, into `grad[:k]`.

        Args:
            step: from 0; all k clients have samples in it.

        Returns:
            The mean losses, float32 `[k]`, detached, not synchronised with the host.
        """

    def alternate(self) -> None:
        """Write gradients to the other one of two matrices from now on: those that were found last stay."""
        other = torch.zeros_like(self.grad) if self._spare is None else self._spare
        self.grad, self._spare = other, self.grad

    def descend(self, step: int, k: int, lr: float) -> Tensor:
        """A step of plain gradient descent, where nothing else reads the gradients: `rows -= lr * gradients`.

        Like `gradients`, except that the first k rows move, to the bits that `Sgd` would give them, and that nothing is
        said of what `grad` holds afterwards: an engine whose gradients come as other tensors need not copy them there.
        """
        losses = self.gradients(step, k)
        self.rows[:k, : self.grad.shape[1]].add_(self.grad[:k], alpha=-lr)
        return losses

    def gradients_at(self, point: Tensor, step: int, k: int) -> Tensor:
        """Gradients, in `grad[:k]`, as `gradients` would find them at other weights; the rows stay as they are.

        Modules that draw random numbers draw the same ones again in the next call of `gradients`.

        Args:
            point: `[P]`, or `[k, P]`.
        """
        mine = self.rows[:k].clone()
        self.rows[:k] = point
        self.gradients(step, k)
        self.rows[:k] = mine
        return self.grad[:k]

    def take(self, steps: range, losses: Tensor, broadcast: Tensor, lr: Rates, correct: Correction | None) -> bool:
        """Take these local steps, updates and all, of the block's first k clients, if the engine was built to.

        Args:
            losses: float64 `[k]`, to which those of the steps are added.
            broadcast: `[P]`, what the clients began with.
            lr: of all the steps, or of each.
            correct: what changes their gradients.

        Returns:
            Whether it did; if not, `gradients` is to be called for each of them, and nothing has changed.
        """
        return False


def generator_of(device: torch.device) -> torch.Generator:
    """The generator that modules draw from on this device.

    Not through `torch.manual_seed`, which reaches for every backend there is, at 1 to 3 ms a call.
    """
    generator: torch.Generator = torch.cuda.default_generators[0] if device.type == "cuda" else torch.default_generator
    return generator


def in_bf16(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A forward pass under autocast, whose output comes back in float32: losses are computed in full.

    No cast is kept for the next pass, which may be of other weights in the same place.
    """
    with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
        return forward(x).to(torch.float32)


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
    ) -> None:
        self.module, self.bf16, self._modes = module.to(device), bf16, TrainingModes(module)
        self._loss, self.info, self.device = loss, info, device
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
        self._features = None if feature_loss is None else FeatureTerm(module, feature_loss)
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
        self._modes.train()
        self._generator.manual_seed(int(block.keys[0]))
        for slot in self._buffers:
            slot.restore()
        for buffer, initial in self._kept:
            buffer.copy_(initial)

    def alternate(self) -> None:
        super().alternate()
        other = self._spare_views or list(self._layout.views(self.grad[0]).values())
        self._grad_views, self._spare_views = other, self._grad_views

    def gradients_at(self, point: Tensor, step: int, k: int) -> Tensor:
        drawn, counters = self._generator.get_state(), [buffer.clone() for buffer, _ in self._kept]
        found = super().gradients_at(point, step, k)
        self._generator.set_state(drawn)
        for (buffer, _), counter in zip(self._kept, counters, strict=True):
            buffer.copy_(counter)
        return found

    def gradients(self, step: int, k: int) -> Tensor:
        loss, grads = self._differentiated(step)
        copy_each(self._grad_views, grads)
        return loss

    def descend(self, step: int, k: int, lr: float) -> Tensor:
        loss, grads = self._differentiated(step)
        add_each(self._weights, grads, alpha=-lr)
        return loss

    def _differentiated(self, step: int) -> tuple[Tensor, list[Tensor]]:
        """The mean loss `[1]` of a step, and its gradients, one tensor a parameter."""
        batch = gather(self._pool, self._batches[step], self.info)
        x = channels_last(batch.x) if self._channels_last else batch.x
        output = self.module(x) if not self.bf16 else in_bf16(self.module, x)
        elements = self._loss(output, batch.y, *self._context)
        if self._features is not None and self._peers:
            penalty = self._features.penalty(x, self._peers, bf16=self.bf16)
            elements = elements + penalty.view(-1, *(1,) * (elements.ndim - 1))
        loss = weighted_mean(elements, batch.weight)
        grads = torch.autograd.grad(loss, self._parameters, allow_unused=True, materialize_grads=True)
        if self._sparse is None:
            self._sparse = any(grad.is_sparse for grad in grads)
        if self._sparse:
            grads = tuple(grad.to_dense() for grad in grads)
        for slot in self._buffers:
            slot.collect()
        return loss.detach().view(1), list(grads)
