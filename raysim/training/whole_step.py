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
from raysim.training.layout import ParameterLayout, flat_values
from raysim.training.optimizers import RowOptimizer, clip_rows
from raysim.training.trainer import ClientRule
from raysim.training.transfer import to_device
from raysim.training.unguarded import compiled
from raysim.user_code import told


class NotWhole(Exception):
    """The step cannot be compiled as a whole; says why."""


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """What a local step does with gradients.

    Attributes:
        optimizer: the trainer's own, whose state the step changes; None leaves the rows where they are.
        own_steps: whether the rule takes the step by itself, in a way that cannot be compiled along.
        seen: whether the rule looks at gradients; if not, nobody has to put them together as rows.
    """

    optimizer: RowOptimizer | None
    clip_norm: float | None
    rule: ClientRule
    own_steps: bool = False
    seen: bool = True


class _AsItIs:
    """Corrects nothing."""

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        return

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        return {}


GRADIENT_ALONE = LocalUpdate(None, None, _AsItIs(), seen=False)
"""Nothing is done with the gradient, but for leaving it where it belongs."""


@dataclass(frozen=True, slots=True)
class _Example:
    """Rows, gradients and losses, and what the code takes, with them in it."""

    rows: Tensor
    grad: Tensor
    losses: Tensor
    of_gradient: list[Tensor]
    of_update: list[Tensor]


class WholeStep:
    """Compiled code that takes a step of any k ≥ 2 rows.

    An algorithm's correction may look at gradients, weights and the broadcast model. One that looks at anything else
    of its context would be compiled with the values of that moment, and is refused.

    Gradients are written parameter by parameter. Where nobody looks at all of them together, each parameter is updated
    there and then; if somebody does, another piece of code corrects and updates whole rows. In one piece, loops over
    whole rows would ask of each column which parameter's it is, and take two to three times as long.
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
        self._device = example[0].device
        self._factors: tuple[float, Sequence[Tensor]] = 0.0, ()
        self._apart = not update.seen and update.clip_norm is None
        if update.own_steps:
            raise NotWhole("the algorithm takes steps of its own")
        if update.optimizer is not None:
            update.optimizer.start(example[0][:, : layout.trainable])
        try:
            self._try_correction(example[0])
        except AttributeError as error:
            raise NotWhole(f"its correction looks at context.{error.name}") from error
        except Exception as error:  # an algorithm of the user's own
            raise NotWhole(f"its correction fails on rows: {told(error)}") from error
        pairs = [self._example([one[:k] for one in example]) for k in (len(example[0]), 3)]
        try:
            self._code: Callable[..., None] = compiled(self._each_parameter(), *(one.of_gradient for one in pairs))
            self._then = None if self._apart else compiled(self._whole_rows(), *(one.of_update for one in pairs))
        except Exception as error:  # torch refuses in many ways
            raise NotWhole(f"torch cannot compile it ({_why(error)})") from error

    def on(
        self, rows: Tensor, grad: Tensor, losses: Tensor, broadcast: Tensor, state: Sequence[Tensor]
    ) -> Callable[[Tensor, Sequence[Tensor]], None]:
        """A step of these rows, in place: of the optimiser's factors `[n]`, and x, y, share and what the loss is told.

        Args:
            rows: `[k, P]`.
            grad: `[k, T]`, where the gradients are left if there is anybody who looks at them.
            losses: `[k]` float64, to which the step's are added.
            broadcast: `[P]`.
            state: of the optimiser, each `[k, T]`.
        """
        code, then = self._code, self._then
        known, weights = self._known(rows, grad, losses, state), rows[:, : self._layout.trainable]

        def step(factors: Tensor, batch: Sequence[Tensor]) -> None:
            code(*known, factors, *batch)
            if then is not None:
                then(weights, grad, broadcast, factors, *state)

        return step

    def factors(self, count: int, lr: float) -> Sequence[Tensor]:
        """The optimiser's, of the first so many steps at least; kept for as long as the learning rate is the same."""
        known_lr, known = self._factors
        if lr != known_lr or len(known) < count:
            optimizer = self.update.optimizer
            numbers = [(0.0,) if optimizer is None else optimizer.factors(step, lr) for step in range(1, count + 1)]
            known = to_device(torch.tensor(numbers), self._device).unbind()
            self._factors = lr, known
        return known

    def outcome(self, k: int, example: Sequence[Tensor]) -> Tensor:
        """What two steps come to for k rows, each of which has the same: `[k, …]`."""
        found = self._example([one[:k] for one in example])
        for _ in range(2):
            self._code(*found.of_gradient)
            if self._then is not None:
                self._then(*found.of_update)
        return torch.cat([found.rows.double(), found.grad.double(), found.losses.unsqueeze(1)], dim=1)

    def _example(self, example: Sequence[Tensor]) -> _Example:
        rows, *batch = example
        rows = rows[: len(batch[0])].clone()
        trainable, optimizer = self._layout.trainable, self.update.optimizer
        losses = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        grad = rows.new_zeros((len(rows), trainable))
        state = [torch.zeros_like(grad) for _ in range(0 if optimizer is None else len(optimizer.state))]
        factors = self.factors(1, 0.1)[0]
        of_gradient = [*self._known(rows, grad, losses, state), factors, *batch]
        return _Example(rows, grad, losses, of_gradient, [rows[:, :trainable], grad, rows[0] * 0.75, factors, *state])

    def _known(self, rows: Tensor, grad: Tensor, losses: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of the gradient's code that stay the same from step to step."""
        kept = state if self._updates else [grad]
        parts = [one[:, s.start : s.start + s.size] for one in kept for s in self._layout.parameters]
        return [losses, *(rows[:, s.start : s.start + s.size] for s in self._layout.segments), *parts]

    @property
    def _updates(self) -> bool:
        """Whether the gradient's code updates the parameters."""
        return self._apart and self.update.optimizer is not None

    def _whole_rows(self) -> FunctionType:
        update, trainable = self.update, self._layout.trainable
        optimizer = update.optimizer

        def step(weights: Tensor, grad: Tensor, broadcast: Tensor, factors: Tensor, *state: Tensor) -> None:
            if update.clip_norm is not None:
                clip_rows(grad, update.clip_norm)
            update.rule.correct(grad, weights, _context(broadcast, trainable, grad))
            if optimizer is not None:
                optimizer.update(weights, grad, state, factors.unbind())

        assert isinstance(step, FunctionType)
        return step

    def _each_parameter(self) -> FunctionType:
        gradient, segments, parameters = self._gradient, self._layout.segments, len(self._layout.parameters)
        optimizer = self.update.optimizer if self._updates else None
        kept = 1 if optimizer is None else len(optimizer.state)

        def step(losses: Tensor, *given: Tensor) -> None:
            values, given = given[: len(segments)], given[len(segments) :]
            places, factors, batch = (
                given[: kept * parameters],
                given[kept * parameters],
                given[kept * parameters + 1 :],
            )
            shaped = (value.view(-1, *segment.shape) for value, segment in zip(values, segments, strict=True))
            *grads, found = gradient(*shaped, *batch)
            for i, grad in enumerate(grads):
                own = places[i::parameters]
                if optimizer is None:
                    own[0].copy_(flat_values(grad))
                else:  # on a copy, which costs nothing here: two parameters may have the same tensor as their gradient
                    optimizer.update(values[i], flat_values(grad).clone(), own, factors.unbind())
            losses.add_(found)

        assert isinstance(step, FunctionType)
        return step

    def _try_correction(self, rows: Tensor) -> None:
        weights = rows[:, : self._layout.trainable].clone()
        grad = torch.ones_like(weights)
        self.update.rule.correct(grad, weights, _context(rows[0].clone(), weights.shape[1], grad))


def _why(error: Exception) -> str:
    """What torch says, in a line."""
    if "Constraints violated" in str(error):
        return "the code would be for one number of clients alone, as that of convolutions is"
    return told(error)[:160]


class _Seen:
    """What of a `ClientContext` a compiled correction may look at: tensors that it is given anew, and a constant."""

    __slots__ = ("broadcast", "grad", "trainable")

    def __init__(self, broadcast: Tensor, trainable: int, grad: Tensor) -> None:
        self.broadcast, self.trainable, self.grad = broadcast, trainable, grad


def _context(broadcast: Tensor, trainable: int, grad: Tensor) -> ClientContext:
    return cast(ClientContext, _Seen(broadcast, trainable, grad))
