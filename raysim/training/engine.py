"""Engines: how the gradients of a block of clients are computed.

An engine owns the `[K, P]` matrix in which its clients train and knows how to get the gradients of its first k rows.
Which samples, which optimiser and which algorithm are the trainer's business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from raysim.arrays import Int64
from raysim.data import DataInfo
from raysim.training.batches import BatchPlan, Shards
from raysim.training.examples import NoisySums
from raysim.training.inputs import Correction, Rates, Some


class UnprotectedError(Exception):
    """A program looks at samples whose gradients alone are protected."""


@dataclass(frozen=True, slots=True)
class Block:
    """K clients that train together, ordered by falling number of steps.

    Attributes:
        shards: their samples.
        plan: the samples of their steps.
        keys: for each, a key for what its module draws by itself, int64 `[K]`.
        peers: other models `[K, P]` that its representations are compared with.
        context: what the loss is told about each, float32 `[K, …]`, where it is a `ClientLoss`.
        noise: for each, a key of the noise on its gradients, int64 `[K]`, where its samples are protected.
    """

    shards: Shards
    plan: BatchPlan
    keys: Int64
    peers: tuple[Tensor, ...] = ()
    context: Tensor | None = None
    noise: Int64 | None = None


class Engine(ABC):
    """Computes gradients of K clients at once.

    Contract: `rows` is `[K, P]` float32 on the training device, every row on a 64-byte boundary; it stays the same
    tensor for life; `grad` is one of two that take turns (`alternate`). `gradients` reads the first k rows, leaves the
    parameters alone, may write the float buffers' columns (running statistics), and writes `grad[:k]`, `[K, T]`,
    padding included (zero). A row's bits depend neither on the other rows nor on its position nor on k.

    Attributes:
        noisy: what protects the clients' samples (`raysim.training.examples`). Then gradients are noisy means of
            clipped ones, and nothing else is computed from samples.
    """

    name: str
    info: DataInfo
    rows: Tensor
    grad: Tensor
    noisy: NoisySums | None = None
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

    def descend_all(self, steps: range, k: int, lr: Rates, losses: Tensor) -> None:
        """`descend` in each of these steps, in which the same k clients train.

        Args:
            lr: of all the steps, or of each.
            losses: float64 `[k]`, to which those of the steps are added.
        """
        rates = repeat(lr) if isinstance(lr, float | int) else lr
        for step, rate in zip(steps, rates, strict=False):
            losses += self.descend(step, k, rate)

    def gradients_at(self, point: Tensor, step: int, k: int) -> Tensor:
        """Gradients, in `grad[:k]`, as `gradients` would find them at other weights; the rows stay as they are.

        Modules that draw random numbers draw the same ones again in the next call of `gradients`.

        Args:
            point: `[P]`, or `[k, P]`.

        Raises:
            UnprotectedError: the clients' samples are protected.
        """
        self.refuse_unprotected("gradients of a batch at other weights")
        mine = self.rows[:k].clone()
        self.rows[:k] = point
        self.gradients(step, k)
        self.rows[:k] = mine
        return self.grad[:k]

    def losses_at(self, point: Tensor, step: int, k: int) -> Tensor:
        """The mean losses of a step, float32 `[k]`, as `gradients` would find them at other weights, without gradients.

        Nothing is changed, and modules that draw random numbers draw the same ones in every call for this step.

        Args:
            point: `[k, P]`.

        Raises:
            UnprotectedError: the clients' samples are protected.
        """
        self.refuse_unprotected("losses of a batch")
        mine, grad = self.rows[:k].clone(), self.grad[:k].clone()
        self.rows[:k] = point
        losses = self.gradients(step, k)
        self.rows[:k], self.grad[:k] = mine, grad
        return losses

    def refuse_unprotected(self, what: str) -> None:
        """Refuse what would look at samples outside of the mechanism that protects them.

        Raises:
            UnprotectedError: there is one.
        """
        if self.noisy is not None:
            raise UnprotectedError(f"client.privacy protects samples, and the algorithm looks at {what}")

    def take(self, b: Some, steps: range, losses: Tensor, lr: Rates, correct: Correction | None) -> bool:
        """Take these local steps, updates and all, of the block's first k clients, if the engine was built to.

        Args:
            b: the k clients, which the correction looks at.
            losses: float64 `[k]`, to which those of the steps are added.
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


def in_bf16(forward: Callable[[Tensor], Any], x: Tensor) -> Any:
    """A forward pass under autocast, whose output comes back in float32: losses are computed in full.

    No cast is kept for the next pass, which may be of other weights in the same place.
    """
    with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
        output = forward(x)
    if isinstance(output, Mapping):
        return {name: one.to(torch.float32) for name, one in output.items()}
    return output.to(torch.float32)
