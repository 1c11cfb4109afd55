"""Local optimisers as algebra on rows: `[K, T]` weights and gradients, one client a row.

Each follows its namesake in `torch.optim`, to the order of operations. State is fresh in every round: `start` clears
it. All rows of a block begin together and only leave from the end, so a step takes the first `k` rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.training.groups import Clip, ColumnRates

Factor = float | Tensor
"""A number, or a tensor without dimensions where a compiled step is to serve any number."""


class RowOptimizer(ABC):
    """Updates rows in place.

    Contract: `start(rows)` before a block; then `step(rows, grad, lr)` with the first k ≤ K rows, k never rising.
    `grad` may be overwritten. A row's result does not depend on the other rows.

    A step is `update`, a function of tensors alone, with the `factors` that belong to it: so it can be compiled.

    Attributes:
        state: what is kept from step to step in this block, each `[K, T]`.
        shared: where columns differ (`ColumnRates`), factors on the learning rate and weight decays, each `[T]`.
        taken: steps since `start`; compiled code that takes some by itself adds them.
    """

    state: tuple[Tensor, ...] = ()
    shared: tuple[Tensor, ...] = ()
    _rates: ColumnRates | None = None
    _states: int = 0
    """How many tensors `state` has."""
    taken: int = 0

    @property
    def plain(self) -> bool:
        """Whether a step is w ← w - ηg and nothing else, so that an engine may take it by itself (`Engine.descend`)."""
        return False

    def start(self, like: Tensor) -> None:
        """Forget everything; the block's rows look like this `[K, T]`."""
        self.taken = 0
        if self._rates is not None:
            self.shared = self._rates.on(like.device)
        if self._states:
            self.state = tuple(_cleared(old, like) for old in self.state or [None] * self._states)

    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        """One step of the rows `[k, T]` along their gradients `[k, T]`, in place."""
        self.taken += 1
        state = tuple(kept[: len(rows)] for kept in self.state)
        self.update(rows, grad, state, self.factors(self.taken, lr), self.shared)

    @abstractmethod
    def factors(self, step: int, lr: float) -> tuple[float, ...]:
        """The numbers that `update` needs in this step, from 1."""

    @abstractmethod
    def update(
        self, rows: Tensor, grad: Tensor, state: Sequence[Tensor], factors: Sequence[Factor],
        shared: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        """One step of the rows `[k, T]`, in place, given their part of the state; keeps nothing on `self`.

        The columns may be some of all T, where those of state and `shared` are the same ones.
        """


class Sgd(RowOptimizer):
    """g ← g + λw;  m ← βm + g;  w ← w - η(g + βm) with Nesterov, w - ηm without."""

    def __init__(self, config: SgdConfig, rates: ColumnRates | None = None) -> None:
        self._rates = rates
        self.momentum, self.nesterov, self.weight_decay = config.momentum, config.nesterov, config.weight_decay
        self._states = 1 if config.momentum else 0

    @property
    def plain(self) -> bool:
        return not self.momentum and not self.weight_decay and self._rates is None

    def factors(self, step: int, lr: float) -> tuple[float, ...]:
        return (-lr,)

    def update(
        self, rows: Tensor, grad: Tensor, state: Sequence[Tensor], factors: Sequence[Factor],
        shared: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        if shared:
            grad.addcmul_(rows, shared[1])
        elif self.weight_decay:
            grad.add_(rows, alpha=self.weight_decay)
        for velocity in state:
            velocity.mul_(self.momentum).add_(grad)
            grad = grad.add_(velocity, alpha=self.momentum) if self.nesterov else velocity
        _add(rows, grad * shared[0] if shared else grad, factors[0])


class Adam(RowOptimizer):
    """Adam (Kingma & Ba 2015, algorithm 1) and, with decoupled weight decay, AdamW (Loshchilov & Hutter 2019)."""

    _states = 2

    def __init__(self, config: AdamConfig, rates: ColumnRates | None = None) -> None:
        self._rates = rates
        self.beta1, self.beta2, self.epsilon = config.beta1, config.beta2, config.epsilon
        self.weight_decay, self.decoupled = config.weight_decay, config.name == "adamw"

    def factors(self, step: int, lr: float) -> tuple[float, ...]:
        correction = (1 - self.beta2**step) ** 0.5
        decay = -lr if self._rates is not None else 1 - lr * self.weight_decay
        return decay, correction, -lr / (1 - self.beta1**step)

    def update(
        self, rows: Tensor, grad: Tensor, state: Sequence[Tensor], factors: Sequence[Factor],
        shared: Sequence[Tensor] = (),
    ) -> None:  # fmt: skip
        first, second = state
        decay, correction, minus_lr = factors
        if shared and self.decoupled:
            _add(rows, rows * (shared[0] * shared[1]), decay)
        elif shared:
            grad.addcmul_(rows, shared[1])
        elif self.weight_decay and self.decoupled:
            rows.mul_(decay)
        elif self.weight_decay:
            grad.add_(rows, alpha=self.weight_decay)
        first.lerp_(grad, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        denominator = (second.sqrt() / correction).add_(self.epsilon)
        if shared:
            _add(rows, first / denominator * shared[0], minus_lr)
        elif isinstance(minus_lr, Tensor):
            rows.add_(first / denominator * minus_lr)
        else:
            rows.addcdiv_(first, denominator, value=minus_lr)


def row_optimizer(config: OptimizerConfig, rates: ColumnRates | None = None) -> RowOptimizer:
    """The optimiser that the configuration names; with rates, columns differ."""
    return Sgd(config, rates) if isinstance(config, SgdConfig) else Adam(config, rates)


def clip_rows(grad: Tensor, clip: Clip) -> None:
    """Scale every row `[K, T]` in place to at most this Euclidean norm, as `torch.nn.utils.clip_grad_norm_`.

    Args:
        clip: the norm, or those of several parts of a row.
    """
    if isinstance(clip, float | int):
        norms = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
        grad.mul_((clip / (norms + 1e-6)).clamp_(max=1.0))
        return
    for parts, norm in clip.parts:
        pieces = [grad[:, part] for part in parts]
        norms = torch.stack([torch.linalg.vector_norm(piece, dim=1) for piece in pieces], dim=1)
        factor = (norm / (torch.linalg.vector_norm(norms, dim=1, keepdim=True) + 1e-6)).clamp_(max=1.0)
        for piece in pieces:
            piece.mul_(factor)


def _add(rows: Tensor, addend: Tensor, factor: Factor) -> None:
    if isinstance(factor, Tensor):
        rows.add_(addend * factor)
    else:
        rows.add_(addend, alpha=factor)


def _cleared(state: Tensor | None, like: Tensor) -> Tensor:
    if state is None or state.shape != like.shape:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return state.zero_()
