"""Local optimisers as algebra on rows: `[K, T]` weights and gradients, one client a row.

Each follows its namesake in `torch.optim`, to the order of operations. State is fresh in every round: `start` clears
it. All rows of a block begin together and only leave from the end, so a step takes the first `k` rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from raysim.config.client import Adam as AdamConfig
from raysim.config.client import OptimizerConfig
from raysim.config.client import Sgd as SgdConfig


class RowOptimizer(ABC):
    """Updates rows in place.

    Contract: `start(rows)` before a block; then `step(rows, grad, lr)` with the first k ≤ K rows, k never rising.
    `grad` may be overwritten. A row's result does not depend on the other rows.
    """

    @property
    def plain(self) -> bool:
        """Whether a step is w ← w - ηg and nothing else, so that an engine may take it by itself (`Engine.descend`)."""
        return False

    @abstractmethod
    def start(self, like: Tensor) -> None:
        """Forget everything; the block's rows look like this `[K, T]`."""

    @abstractmethod
    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        """One step of the rows `[k, T]` along their gradients `[k, T]`, in place."""


class Sgd(RowOptimizer):
    """g ← g + λw;  m ← βm + g;  w ← w - η(g + βm) with Nesterov, w - ηm without."""

    def __init__(self, config: SgdConfig) -> None:
        self.momentum, self.nesterov, self.weight_decay = config.momentum, config.nesterov, config.weight_decay
        self._velocity: Tensor | None = None

    @property
    def plain(self) -> bool:
        return not self.momentum and not self.weight_decay

    def start(self, like: Tensor) -> None:
        if self.momentum:
            self._velocity = _cleared(self._velocity, like)

    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        if self.weight_decay:
            grad.add_(rows, alpha=self.weight_decay)
        if self._velocity is not None:
            velocity = self._velocity[: len(rows)]
            velocity.mul_(self.momentum).add_(grad)
            grad = grad.add_(velocity, alpha=self.momentum) if self.nesterov else velocity
        rows.add_(grad, alpha=-lr)


class Adam(RowOptimizer):
    """Adam (Kingma & Ba 2015, algorithm 1) and, with decoupled weight decay, AdamW (Loshchilov & Hutter 2019)."""

    def __init__(self, config: AdamConfig) -> None:
        self.beta1, self.beta2, self.epsilon = config.beta1, config.beta2, config.epsilon
        self.weight_decay, self.decoupled = config.weight_decay, config.name == "adamw"
        self._first: Tensor | None = None
        self._second: Tensor | None = None
        self._steps = 0

    def start(self, like: Tensor) -> None:
        self._first, self._second, self._steps = _cleared(self._first, like), _cleared(self._second, like), 0

    def step(self, rows: Tensor, grad: Tensor, lr: float) -> None:
        assert self._first is not None, "start() comes first"
        assert self._second is not None, "start() comes first"
        first, second = self._first[: len(rows)], self._second[: len(rows)]
        self._steps += 1
        if self.weight_decay and self.decoupled:
            rows.mul_(1 - lr * self.weight_decay)
        elif self.weight_decay:
            grad.add_(rows, alpha=self.weight_decay)
        first.lerp_(grad, 1 - self.beta1)
        second.mul_(self.beta2).addcmul_(grad, grad, value=1 - self.beta2)
        correction = (1 - self.beta2**self._steps) ** 0.5
        denominator = (second.sqrt() / correction).add_(self.epsilon)
        rows.addcdiv_(first, denominator, value=-lr / (1 - self.beta1**self._steps))


def row_optimizer(config: OptimizerConfig) -> RowOptimizer:
    """The optimiser that the configuration names."""
    return Sgd(config) if isinstance(config, SgdConfig) else Adam(config)


def clip_rows(grad: Tensor, norm: float) -> None:
    """Scale every row `[K, T]` in place to at most this Euclidean norm, as `torch.nn.utils.clip_grad_norm_`."""
    norms = torch.linalg.vector_norm(grad, dim=1, keepdim=True)
    grad.mul_((norm / (norms + 1e-6)).clamp_(max=1.0))


def _cleared(state: Tensor | None, like: Tensor) -> Tensor:
    if state is None or state.shape != like.shape:
        return torch.zeros_like(like, memory_format=torch.contiguous_format)
    return state.zero_()
