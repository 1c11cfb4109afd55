"""One step of a pass: a batch of each client that still trains, and what a program may do with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from raysim.training.batches import LocalWork
from raysim.training.engine import Engine
from raysim.training.groups import Clip
from raysim.training.inputs import Correction, Rates, Some
from raysim.training.optimizers import RowOptimizer, clip_rows

CUT = ("k", "clients", "samples", "steps", "rows", "weights", "state", "own")
"""What there is of each client: within a pass only for those that still train."""


@dataclass(frozen=True, slots=True)
class Means:
    """What clients train with.

    Attributes:
        optimizer: None where the program moves the rows by itself, or leaves them at the broadcast model.
        clip_norm: Euclidean norm, of the whole or of parts, to which each client's gradients are clipped, but for
            `full_gradient` and `peek`.
        matrices: how many matrices `[K, P]` the program may make beside the rows.
    """

    engine: Engine
    optimizer: RowOptimizer | None
    work: LocalWork
    clip_norm: Clip | None
    matrices: int = 0


class Step(Some):
    """A batch of each client that still trains. It is the same object while the same clients train: not to be kept."""

    def __init__(self, whole: Some, means: Means, each: Mapping[str, Any], k: int, loss_sums: Tensor) -> None:
        """A batch of the block's first k clients, whose loss sums are `[k]`; `each` has what there is of every client,
        which is cut to the k when it is looked at."""
        self.k, self._each = k, each
        self.setting, self.broadcast, self.trainable = whole.setting, whole.broadcast, whole.trainable
        self.epochs, self.server = whole.epochs, whole.server
        self._means, self._loss_sums = means, loss_sums
        self._first, self._calls = 0, 0
        self.taken = 0

    def __getattr__(self, name: str) -> object:
        if name not in CUT:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        whole, k = self._each[name], self.k
        part = {own: one[:k] for own, one in whole.items()} if isinstance(whole, Mapping) else whole[:k]
        setattr(self, name, part)
        return part

    def step(self, correct: Correction | None = None) -> None:
        """A local step: gradient, clipping, correction, optimiser."""
        step = self._next()
        self.take(range(step, step + 1), correct)

    def gradients(self, at: Tensor | None = None) -> Tensor:
        """Gradients of the batch, `[k, T]`, clipped; their losses are recorded. Valid until the second next call.

        Args:
            at: `[k, P]`, models to take them at in place of the rows; running statistics then move in these.

        Raises:
            ValueError: more are taken than the work has for a batch (`LocalWork.repeats`), or `at` has another shape.
        """
        step, engine = self._next(), self._means.engine
        engine.alternate()
        if at is None:
            self._loss_sums += engine.gradients(step, self.k)
        else:
            if at.shape != self.rows.shape:
                raise ValueError(f"gradients at shape {list(at.shape)}; expected models {list(self.rows.shape)}")
            before = self.rows.clone()
            self.rows.copy_(at)
            self._loss_sums += engine.gradients(step, self.k)
            at[:, self.trainable :] = self.rows[:, self.trainable :]
            self.rows.copy_(before)
        grad = engine.grad[: self.k]
        if self._means.clip_norm is not None:
            clip_rows(grad, self._means.clip_norm)
        return grad

    def losses(self, at: Tensor) -> Tensor:
        """Mean losses of the batch at other models, float32 `[k]`, without gradients; they are recorded.

        Nothing is changed; modules draw the same random numbers in every call for this batch.

        Args:
            at: `[k, P]`.

        Raises:
            ValueError: it has another shape.
        """
        if at.shape != self.rows.shape:
            raise ValueError(f"losses at shape {list(at.shape)}; expected models {list(self.rows.shape)}")
        found = self._means.engine.losses_at(at, self._first, self.k)
        self._loss_sums += found
        self.taken += 1
        return found

    def peek(self, at: Tensor) -> Tensor:
        """Gradients `[k, T]` of the batch at other models, `[P]` or `[k, P]`; valid until the second next call.

        Nothing is clipped, recorded or changed, and modules draw the same random numbers again for the next gradients.
        """
        self._means.engine.alternate()
        return self._means.engine.gradients_at(at, self._first + self._calls, self.k)

    def move(self, grad: Tensor) -> None:
        """A step of the local optimiser along `[k, T]`, which may be used up.

        Raises:
            ValueError: the algorithm has no local optimiser.
        """
        if self._means.optimizer is None:
            raise ValueError("move needs a local optimiser, and the algorithm's local_optimizer is None")
        self._means.optimizer.step(self.weights, grad, self.lr)

    @property
    def lr(self) -> float:
        """Client learning rate of this batch."""
        rates = self.setting.rates
        return self.setting.lr if rates is None else rates[self.number]

    def begin(self, first: int) -> None:
        """Go on to the batch whose first local step this is."""
        self._first, self._calls = first, 0
        self.number = first // self._means.work.repeats

    def take(self, steps: range, correct: Correction | None) -> None:
        """These local steps, whole; the engine takes all of them at once if it has the code."""
        engine, optimizer, clip_norm = self._means.engine, self._means.optimizer, self._means.clip_norm
        k, repeats, losses, rates = self.k, self._means.work.repeats, self._loss_sums, self.setting.rates
        lr: Rates = self.setting.lr if rates is None else [rates[step // repeats] for step in steps]
        if engine.take(self, steps, losses, lr, correct):
            return
        if correct is None and clip_norm is None and optimizer is not None and optimizer.plain:
            self.number = steps[-1] // repeats
            engine.descend_all(steps, k, lr, losses)
            return
        grad, weights = engine.grad[:k], self.weights
        for step in steps:
            self.number = step // repeats
            losses += engine.gradients(step, k)
            if clip_norm is not None:
                clip_rows(grad, clip_norm)
            if correct is not None:
                correct(grad, weights, self)
            if optimizer is not None:
                optimizer.step(weights, grad, self.lr)

    def _next(self) -> int:
        """The local step of the next gradient."""
        repeats = self._means.work.repeats
        if self._calls >= repeats:
            raise ValueError(
                f"a batch has {repeats} gradient{'s' if repeats > 1 else ''} in the algorithm's work; for more, have "
                "`work` return a LocalWork with as many repeats"
            )
        self._calls += 1
        self.taken += 1
        return self._first + self._calls - 1
