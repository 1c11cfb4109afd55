"""Server optimisers: how the averaged update moves the model. Pure functions on float64 vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysim.arrays import Float32, Float64


@dataclass(frozen=True, slots=True)
class ServerSgd:
    """m ← βm + Δ;  w ← w + ηm  (FedAvg with β = 0, η = 1; FedAvgM, Hsu, Qi & Brown 2019, otherwise), or with Nesterov
    w ← w + η(Δ + βm), as `torch.optim.SGD` along -Δ.

    Attributes:
        lr: server learning rate η.
        momentum: β.
        trainable: T; columns `[T, P)` are running statistics and move by the plain mean.
        nesterov: Nesterov momentum.
    """

    lr: float
    momentum: float
    trainable: int
    nesterov: bool = False

    def init(self, model: Float32) -> dict[str, Float64]:
        """State for a model `[P]`."""
        return {"momentum": np.zeros(self.trainable)} if self.momentum else {}

    def step(self, model: Float32, state: Mapping[str, Float64], update: Float64) -> tuple[Float32, dict[str, Float64]]:
        """The next model `[P]` and state, from the averaged update `[P]`; the arguments are only read."""
        move = update.copy()
        after: dict[str, Float64] = {}
        if self.momentum:
            after["momentum"] = self.momentum * state["momentum"] + update[: self.trainable]
            if self.nesterov:
                move[: self.trainable] += self.momentum * after["momentum"]
            else:
                move[: self.trainable] = after["momentum"]
        move[: self.trainable] *= self.lr
        move += model
        return move.astype(np.float32), after


@dataclass(frozen=True, slots=True)
class ServerAdaptive:
    """m ← β1·m + (1-β1)·Δ;  v as its kind says;  w ← w + η·m / (√v + τ)  (FedOpt, Reddi et al. 2021, algorithm 2).

    - adagrad: v ← v + Δ²
    - adam: v ← β2·v + (1-β2)·Δ²
    - yogi: v ← v - (1-β2)·Δ²·sign(v - Δ²)

    Attributes:
        lr: server learning rate η.
        beta1, beta2: decays; adagrad has no β2.
        tau: degree of adaptivity τ; v begins at τ².
        trainable: T; columns `[T, P)` are running statistics and move by the plain mean.
    """

    kind: Literal["adagrad", "adam", "yogi"]
    lr: float
    beta1: float
    beta2: float
    tau: float
    trainable: int

    def init(self) -> dict[str, Float64]:
        """State before the first round: both moments, `[T]`."""
        return {"first": np.zeros(self.trainable), "second": np.full(self.trainable, self.tau**2)}

    def step(self, model: Float32, state: Mapping[str, Float64], update: Float64) -> tuple[Float32, dict[str, Float64]]:
        """The next model `[P]` and state, from the averaged update `[P]`; the arguments are only read."""
        delta = update[: self.trainable]
        first = self.beta1 * state["first"] + (1 - self.beta1) * delta
        second = self._second(state["second"], delta * delta)
        move = update.copy()
        move[: self.trainable] = self.lr * first / (np.sqrt(second) + self.tau)
        move += model
        return move.astype(np.float32), {"first": first, "second": second}

    def _second(self, second: Float64, square: Float64) -> Float64:
        if self.kind == "adagrad":
            return second + square
        if self.kind == "adam":
            return self.beta2 * second + (1 - self.beta2) * square
        return second - (1 - self.beta2) * square * np.sign(second - square)
