"""Local optimisers as algebra on rows: `[K, T]` weights and gradients, one client a row.

Each follows its namesake in `torch.optim`, to the order of operations. State is fresh in every round, or what the
clients kept: `start` says. All rows of a block begin together and only leave from the end, so a step takes the first
`k` rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysim.arrays import Float32, Int64
from raysim.config.client import AdamConfig, OptimizerConfig, SgdConfig
from raysim.training.groups import Clip, ColumnRates
from raysim.training.transfer import to_device

Factor = float | Tensor
"""A number, or a tensor without dimensions where a compiled step is to serve any number."""


class RowOptimizer(ABC):
    """Updates rows in place.

    Contract: `start(rows)` before a block, with what its clients kept where `keeps`; then `step(rows, grad, lr)` with
    the first k ≤ K rows, k never rising. `grad` may be overwritten. A row's result does not depend on the other rows.

    A step is `update`, a function of tensors alone, with the `factors` that belong to it: so it can be compiled.

    Attributes:
        state: what is kept from step to step in this block, each `[K, T]`.
        shared: where columns differ (`ColumnRates`), factors on the learning rate and weight decays, each `[T]`.
        keeps: whether clients keep the state from round to round (`vectors`).
        taken: steps since `start`; compiled code that takes some by itself adds them (`count`).
    """

    keeps: bool = False
    state: tuple[Tensor, ...] = ()
    shared: tuple[Tensor, ...] = ()
    _rates: ColumnRates | None = None
    _names: tuple[str, ...] = ()
    """Of the tensors of `state`."""
    _counts: ClassVar[bool] = False
    """Whether a step depends on how many there were before."""
    taken: int = 0
    _before: Int64 | None = None
    """Steps of each row before `start`, `[K]`, where it goes on with what it kept."""

    @property
    def plain(self) -> bool:
        """Whether a step is w ← w - ηg and nothing else, so that an engine may take it by itself (`Engine.descend`)."""
        return False

    def vectors(self, trainable: int) -> dict[str, int]:
        """Sizes of the vectors that a client keeps from round to round, by name; their first values are zero."""
        kept = {f"optimizer/{name}": trainable for name in self._names} if self.keeps else {}
        return {**kept, "optimizer/steps": 1} if kept and self._counts else kept

    def values(self, rows: int, trainable: int) -> int:
        """Values of state and `shared` for blocks of this shape."""
        return trainable * (rows * len(self._names) + (0 if self._rates is None else 2))

    def start(self, like: Tensor, kept: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        """Forget everything; the block's rows look like this `[K, T]`.

        Args:
            kept: what each client kept, by name, `[K, size]`, where `keeps`.
        """
        self.taken = 0
        if self._rates is not None:
            self.shared = self._rates.on(like.device)
        if self._names:
            self.state = tuple(_cleared(old, like) for old in self.state or [None] * len(self._names))
        if not self.keeps:
            return
        self._kept = {name: kept[name] for name in self.vectors(like.shape[1])}
        for mine, kept_before in zip(self.state, self._kept.values(), strict=False):
            mine.copy_(kept_before)
        steps = self._kept.get("optimizer/steps")
        self._before = None if steps is None else steps[:, 0].cpu().numpy().astype(np.int64)
        self._moved = np.zeros(len(like), dtype=np.int64)

    def leave(self) -> None:
        """Write what clients keep to where it came from."""
        for mine, kept in zip(self.state, self._kept.values(), strict=False):
            kept.copy_(mine)
        if self._before is not None:
            steps = self._kept["optimizer/steps"]
            steps[:, 0] = to_device((self._before + self._moved).astype(np.float32), steps.device)

    def count(self, k: int, steps: int) -> None:
        """So many steps more were taken, of the first k rows."""
        self.taken += steps
        if self._before is not None:
            self._moved[:k] += steps

    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        """One step of the rows `[k, T]` along their gradients `[k, T]`, in place."""
        k = len(rows)
        self.count(k, 1)
        state = tuple(kept[:k] for kept in self.state)
        if self.unequal:
            each = to_device(self.each_factors(k, self.taken, lr), rows.device)
            self.update(rows, grad, state, each.unsqueeze(2).unbind(1), self.shared)
        else:
            self.update(rows, grad, state, self.factors(self.taken, lr), self.shared)

    @property
    def unequal(self) -> bool:
        """Whether rows may have gone unequally many steps before, so that each has factors of its own."""
        return self._before is not None

    def each_factors(self, k: int, step: int, lr: float) -> Float32:
        """`factors` of each of the first k rows, `[k, n]`, where they went unequally many steps before (`unequal`)."""
        assert self._before is not None, "rows went equally many steps before"
        values, place = np.unique(self._before[:k], return_inverse=True)
        return np.array([self.factors(before + step, lr) for before in values.tolist()], dtype=np.float32)[place]

    @property
    @abstractmethod
    def program(self) -> Hashable:
        """All that `update` computes with besides its arguments: two optimisers with the same have the same code."""

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
        self.keeps, self._names = config.state == "keep", ("momentum",) if config.momentum else ()

    @property
    def plain(self) -> bool:
        return not self.momentum and not self.weight_decay and self._rates is None

    @property
    def program(self) -> Hashable:
        return Sgd, self.momentum, self.nesterov, self.weight_decay, self._rates is None

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

    _names, _counts = ("first", "second"), True

    def __init__(self, config: AdamConfig, rates: ColumnRates | None = None) -> None:
        self.keeps, self._rates = config.state == "keep", rates
        self.beta1, self.beta2, self.epsilon = config.beta1, config.beta2, config.epsilon
        self.weight_decay, self.decoupled = config.weight_decay, config.name == "adamw"

    @property
    def program(self) -> Hashable:
        return Adam, self.beta1, self.beta2, self.epsilon, self.weight_decay, self.decoupled, self._rates is None

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
