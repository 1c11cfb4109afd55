"""A whole local step in one compiled call: gradients, clipping, the algorithm's correction, the optimiser's update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import cast

import torch
from torch import Tensor

from raysim.training.capture import Vectorised
from raysim.training.context import ClientContext
from raysim.training.layout import ParameterLayout
from raysim.training.losses import first_line
from raysim.training.optimizers import RowOptimizer, clip_rows
from raysim.training.trainer import ClientRule
from raysim.training.unguarded import compiled


class NotWhole(Exception):
    """The step cannot be compiled as a whole; says why."""


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """What a local step does with gradients.

    Attributes:
        optimizer: the trainer's own, whose state the step changes; None leaves the rows where they are.
        own_steps: whether the rule takes the step by itself, in a way that cannot be compiled along.
    """

    optimizer: RowOptimizer | None
    clip_norm: float | None
    rule: ClientRule
    own_steps: bool = False


class _AsItIs:
    """Corrects nothing."""

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        return

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        return {}


GRADIENT_ALONE = LocalUpdate(None, None, _AsItIs())
"""Nothing is done with the gradient, but for leaving it where it belongs."""


class WholeStep:
    """Compiled code that takes a step of any k ≥ 2 rows.

    An algorithm's correction may look at gradients, weights and the broadcast model. One that looks at anything else
    of its context would be compiled with the values of that moment, and is refused.
    """

    def __init__(self, gradient: Vectorised, layout: ParameterLayout, update: LocalUpdate, example: Sequence[Tensor]):
        """Compile it.

        Args:
            gradient: of parameters and buffers `[k, …]`, x, y and share, and what the loss is told, to gradients and
                losses.
            example: rows `[k, P]`, x, y and share `[k, B, …]`, and what the loss is told, to try it on, for a k ≥ 4.

        Raises:
            NotWhole: it cannot be compiled; says why.
        """
        self.update, self._layout, self._gradient = update, layout, gradient
        self._device, self._inputs = example[0].device, len(example) - 1
        self._factors: tuple[float, Sequence[Tensor]] = 0.0, ()
        if update.own_steps:
            raise NotWhole("the algorithm takes steps of its own")
        if update.optimizer is not None:
            update.optimizer.start(example[0][:, : layout.trainable])
        try:
            self._try_correction(example[0])
        except AttributeError as error:
            raise NotWhole(f"its correction looks at context.{error.name}") from error
        except Exception as error:  # an algorithm of the user's own
            raise NotWhole(f"its correction fails on rows: {first_line(error)}") from error
        try:
            self._code: Callable[..., None] = compiled(
                self._function(), *(self._arguments([one[:k] for one in example]) for k in (len(example[0]), 3))
            )
        except Exception as error:  # torch refuses in many ways
            raise NotWhole(f"torch cannot compile it ({first_line(error)[:160]})") from error

    def __call__(
        self, rows: Tensor, grad: Tensor, losses: Tensor, broadcast: Tensor, factors: Tensor, batch: Sequence[Tensor],
        state: Sequence[Tensor],
    ) -> None:  # fmt: skip
        """One step, in place.

        Args:
            rows: `[k, P]`.
            grad: `[k, T]`, where the gradients are left.
            losses: `[k]` float64, to which the step's are added.
            broadcast: `[P]`.
            factors: of the optimiser, `[n]`.
            batch: x, y and share, and what the loss is told.
            state: of the optimiser, each `[k, T]`.
        """
        self._code(rows, grad, losses, broadcast, factors, *batch, *state)

    def factors(self, count: int, lr: float) -> Sequence[Tensor]:
        """The optimiser's, of the first so many steps at least; kept for as long as the learning rate is the same."""
        known_lr, known = self._factors
        if lr != known_lr or len(known) < count:
            optimizer = self.update.optimizer
            numbers = [(0.0,) if optimizer is None else optimizer.factors(step, lr) for step in range(1, count + 1)]
            known = torch.tensor(numbers).to(self._device, non_blocking=True).unbind()
            self._factors = lr, known
        return known

    def outcome(self, k: int, example: Sequence[Tensor]) -> Tensor:
        """What two steps come to for k rows, each of which has the same: `[k, …]`."""
        arguments = self._arguments([one[:k] for one in example])
        for _ in range(2):
            self._code(*arguments)
        rows, grad, losses, *_ = arguments
        return torch.cat([rows.double(), grad.double(), losses.unsqueeze(1)], dim=1)

    def _arguments(self, example: Sequence[Tensor]) -> list[Tensor]:
        rows, *batch = example
        rows = rows[: len(batch[0])]
        k, trainable = len(rows), self._layout.trainable
        optimizer = self.update.optimizer
        count = 0 if optimizer is None else len(optimizer.state)
        factors = self.factors(1, 0.1)[0]
        state = [rows.new_zeros((k, trainable)) for _ in range(count)]
        losses = torch.zeros(k, dtype=torch.float64, device=rows.device)
        grad = rows.new_zeros((k, trainable))
        return [rows.clone(), grad, losses, rows[0] * 0.75, factors, *batch, *state]

    def _function(self) -> FunctionType:
        gradient, layout, update = self._gradient, self._layout, self.update
        optimizer, trainable, inputs = update.optimizer, layout.trainable, self._inputs

        def step(
            rows: Tensor, grad: Tensor, losses: Tensor, broadcast: Tensor, factors: Tensor, *given: Tensor
        ) -> None:
            batch, state = given[:inputs], given[inputs:]
            *grads, found = gradient(*layout.views(rows).values(), *batch)
            for place, value in zip(layout.views(grad).values(), grads, strict=True):
                place.copy_(value)
            weights = rows[:, :trainable]
            if update.clip_norm is not None:
                clip_rows(grad, update.clip_norm)
            update.rule.correct(grad, weights, _context(broadcast, trainable, grad))
            if optimizer is not None:
                optimizer.update(weights, grad, state, factors.unbind())
            losses.add_(found)

        assert isinstance(step, FunctionType)
        return step

    def _try_correction(self, rows: Tensor) -> None:
        weights = rows[:, : self._layout.trainable].clone()
        grad = torch.ones_like(weights)
        self.update.rule.correct(grad, weights, _context(rows[0].clone(), weights.shape[1], grad))


class _Seen:
    """What of a `ClientContext` a compiled correction may look at: tensors that it is given anew, and a constant."""

    __slots__ = ("broadcast", "grad", "trainable")

    def __init__(self, broadcast: Tensor, trainable: int, grad: Tensor) -> None:
        self.broadcast, self.trainable, self.grad = broadcast, trainable, grad


def _context(broadcast: Tensor, trainable: int, grad: Tensor) -> ClientContext:
    return cast(ClientContext, _Seen(broadcast, trainable, grad))
