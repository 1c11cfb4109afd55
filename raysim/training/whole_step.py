"""A whole local step in one compiled call: gradients, clipping, the algorithm's correction, the optimiser's update."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from types import FunctionType

import numpy as np
import torch
from torch import Tensor

from raysim.training.capture import Vectorised
from raysim.training.compiled_correction import ChangesState, Looks, VectorSizes
from raysim.training.groups import Clip
from raysim.training.inputs import Correction, Rates
from raysim.training.layout import ParameterLayout, flat_values
from raysim.training.optimizers import RowOptimizer, clip_rows
from raysim.training.transfer import to_device
from raysim.training.unguarded import Compiled, compiled
from raysim.user_code import told


class NotWhole(Exception):
    """The step cannot be compiled as a whole; says why."""


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

    An algorithm's correction may look at gradients, weights, the broadcast model, the server's vectors and what clients
    keep. One that looks at anything else of the step would be compiled with the values of that moment, and is refused.

    Gradients are written parameter by parameter. Without a correction and clipping, each parameter is updated there and
    then; with one, another piece of code corrects and updates whole rows. In one piece, loops over whole rows would
    compute for each column which parameter's it is, and take two to three times as long.

    Attributes:
        looks: at which vectors the correction looks.
        checked: why every step goes through torch's checks; empty where it does not.
    """

    def __init__(
        self, gradient: Vectorised, layout: ParameterLayout, optimizer: RowOptimizer | None, clip_norm: Clip | None,
        correct: Correction | None, example: Sequence[Tensor], sizes: VectorSizes,
    ) -> None:  # fmt: skip
        """Compile it.

        Args:
            gradient: of parameters and buffers `[k, …]`, x, y and share, and what the loss is told, to gradients and
                losses.
            example: rows `[k, P]`, x, y and share `[k, B, …]`, and what the loss is told, to try it on, for a k ≥ 4.
            sizes: of the vectors that the correction may look at.

        Raises:
            NotWhole: it cannot be compiled; says why.
        """
        self._optimizer, self._clip_norm, self._correct = optimizer, clip_norm, correct
        self._layout, self._gradient, self._sizes = layout, gradient, sizes
        self._device = example[0].device
        self._segments, self._parameters = (
            [slice(one.start, one.start + one.size) for one in some] for some in (layout.segments, layout.parameters)
        )
        self._factors: tuple[tuple[float, ...], Sequence[Tensor]] = (), ()
        self._apart = correct is None and clip_norm is None
        if optimizer is not None:
            weights, kept = example[0][:, : layout.trainable], optimizer.vectors(layout.trainable)
            optimizer.start(weights, {name: weights.new_zeros((len(weights), size)) for name, size in kept.items()})
        try:
            self.looks = self._looks(example[0])
        except AttributeError as error:
            raise NotWhole(f"its correction looks at b.{error.name}") from error
        except ChangesState as error:
            raise NotWhole(str(error)) from error
        except Exception as error:  # an algorithm of the user's own
            raise NotWhole(f"its correction fails on rows: {told(error)}") from error
        pairs = [self._example([one[:k] for one in example]) for k in (len(example[0]), 3)]
        each, of_gradient = self._each_parameter(), [one.of_gradient for one in pairs]
        try:
            program = None if optimizer is None else optimizer.program
            code, then = _once(gradient, program if self._updates else None, each, *of_gradient), None
            if not self._apart:
                rows, of_update = self._whole_rows(), [one.of_update for one in pairs]
                known = correct is None and isinstance(clip_norm, float | int)
                then = (
                    _once(gradient, ("rows", clip_norm, program), rows, *of_update)
                    if known
                    else compiled(rows, *of_update)
                )
        except Exception as error:  # torch refuses in many ways
            raise NotWhole(f"torch cannot compile it ({_why(error)})") from error
        self._code, self._then = code.call, None if then is None else then.call
        self.checked = code.checked or ("" if then is None else then.checked)

    def on(
        self,
        rows: Tensor,
        grad: Tensor,
        losses: Tensor,
        broadcast: Tensor,
        vectors: Sequence[Tensor],
        state: Sequence[Tensor],
    ) -> Callable[[Tensor, Sequence[Tensor]], None]:
        """A step of these rows, in place: of the optimiser's factors `[n]`, and x, y, share and what the loss is told.

        Args:
            rows: `[k, P]`.
            grad: `[k, T]`, where the gradients are left if there is anybody who looks at them.
            losses: `[k]` float64, to which the step's are added.
            broadcast: `[P]`.
            vectors: that the correction looks at (`looks`).
            state: of the optimiser, each `[k, T]`.
        """
        code, then, shared = self._code, self._then, self._shared
        known = self._known(rows, grad, losses, state)
        if self._updates:
            return lambda factors, batch: code(*known, factors, *batch)
        weights = rows[:, : self._layout.trainable]

        def step(factors: Tensor, batch: Sequence[Tensor]) -> None:
            code(*known, *batch)
            if then is not None:
                then(weights, grad, broadcast, factors, *vectors, *shared, *state)

        return step

    def factors(self, count: int, lr: Rates, taken: int = 0, k: int = 1, width: int = 1) -> Sequence[Tensor]:
        """The optimiser's, of at least this many steps after those taken; kept for as long as the learning rate, or
        those of the steps, are the same.

        Args:
            lr: of all the steps, or of each of them.
            k, width: rows that train, and those of the code, where each has factors of its own; the last one's are
                those of all beyond.
        """
        optimizer = self._optimizer
        if optimizer is not None and optimizer.unequal:
            rates = [lr] * count if isinstance(lr, float | int) else lr
            place = np.minimum(np.arange(width), k - 1)
            each = [optimizer.each_factors(k, taken + 1 + i, one)[place] for i, one in enumerate(rates)]
            return to_device(np.stack(each), self._device).unbind()
        key: tuple[float, ...]
        if isinstance(lr, float | int):
            key, before, rates = (lr,), 0, [lr] * (taken + count)
        else:
            key, before, rates = (taken, *lr), taken, lr
        known_key, known = self._factors
        if key != known_key or len(known) < len(rates):
            numbers = [(0.0,) if optimizer is None else optimizer.factors(*one) for one in enumerate(rates, before + 1)]
            known = to_device(torch.tensor(numbers), self._device).unbind()
            self._factors = key, known
        return known[taken - before :]

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
        trainable, optimizer = self._layout.trainable, self._optimizer
        losses = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        grad = rows.new_zeros((len(rows), trainable))
        state = [torch.zeros_like(grad) for _ in range(0 if optimizer is None else len(optimizer.state))]
        factors = self.factors(1, 0.1, 0, len(rows), len(rows))[0]
        of_gradient = [*self._known(rows, grad, losses, state), *([factors] if self._updates else []), *batch]
        vectors = self.looks.example(len(rows), self._sizes, rows.device)
        of_update = [rows[:, :trainable], grad, rows[0] * 0.75, factors, *vectors, *self._shared, *state]
        return _Example(rows, grad, losses, of_gradient, of_update)

    def _known(self, rows: Tensor, grad: Tensor, losses: Tensor, state: Sequence[Tensor]) -> list[Tensor]:
        """The arguments of the gradient's code that stay the same from step to step."""
        kept = [*self._shared, *state] if self._updates else [grad]
        parts = [one[..., columns] for one in kept for columns in self._parameters]
        return [losses, *[rows[:, columns] for columns in self._segments], *parts]

    @property
    def _shared(self) -> Sequence[Tensor]:
        """Vectors `[T]` of the optimiser's."""
        return () if self._optimizer is None else self._optimizer.shared

    @property
    def _updates(self) -> bool:
        """Whether the gradient's code updates the parameters."""
        return self._apart and self._optimizer is not None

    def _whole_rows(self) -> FunctionType:
        optimizer, clip_norm, correct = self._optimizer, self._clip_norm, self._correct
        looks, trainable, shared = self.looks, self._layout.trainable, len(self._shared)
        looked = len(looks)

        def step(weights: Tensor, grad: Tensor, broadcast: Tensor, factors: Tensor, *kept: Tensor) -> None:
            if clip_norm is not None:
                clip_rows(grad, clip_norm)
            if correct is not None:
                correct(grad, weights, looks.seen(broadcast, trainable, kept[:looked]))
            if optimizer is not None:
                own = kept[looked:]
                optimizer.update(weights, grad, own[shared:], _apart(factors), own[:shared])

        assert isinstance(step, FunctionType)
        return step

    def _each_parameter(self) -> FunctionType:
        gradient, segments, parameters = self._gradient, self._layout.segments, len(self._layout.parameters)
        optimizer = self._optimizer if self._updates else None
        shared = 0 if optimizer is None else len(optimizer.shared)
        kept = 1 if optimizer is None else shared + len(optimizer.state)
        places_end = kept * parameters
        batch_begin = places_end if optimizer is None else places_end + 1

        def step(losses: Tensor, *given: Tensor) -> None:
            values, given = given[: len(segments)], given[len(segments) :]
            places, batch = given[:places_end], given[batch_begin:]
            shaped = (value.view(-1, *segment.shape) for value, segment in zip(values, segments, strict=True))
            *grads, found = gradient(*shaped, *batch)
            for i, grad in enumerate(grads):
                own = places[i::parameters]
                if optimizer is None:
                    own[0].copy_(flat_values(grad))
                else:  # on a copy, which costs nothing here: two parameters may have the same tensor as their gradient
                    grad = flat_values(grad).clone()
                    optimizer.update(values[i], grad, own[shared:], _apart(given[places_end]), own[:shared])
            losses.add_(found)

        assert isinstance(step, FunctionType)
        return step

    def _looks(self, rows: Tensor) -> Looks:
        if self._correct is None:
            return Looks()
        return Looks.of(self._correct, rows[:, : self._layout.trainable], rows[0].clone(), self._sizes)


def _apart(factors: Tensor) -> Sequence[Tensor]:
    """Factors `[n]`, or of each row `[k, n]`, one by one."""
    return factors.unbind() if factors.ndim == 1 else factors.unsqueeze(2).unbind(1)


def _once(
    gradient: Vectorised, program: Hashable, function: FunctionType, first: Sequence[Tensor], second: Sequence[Tensor]
) -> Compiled:
    """The compiled function: one for all steps, and all engines, of a captured gradient.

    An engine is made when engines are timed, and again to train.

    Args:
        program: what the function computes, besides the gradient, of arguments of these shapes.
    """
    codes: dict[object, Compiled] = vars(getattr(gradient, "__self__", function)).setdefault("codes", {})
    key = program, tuple((one.shape, one.stride(), one.dtype, one.device) for one in first)
    if key not in codes:
        codes[key] = compiled(function, first, second)
    return codes[key]


def _why(error: Exception) -> str:
    """What torch says, in a line."""
    if "Constraints violated" in str(error):
        return "the code would be for one number of clients alone, as that of convolutions is"
    return told(error)[:160]
