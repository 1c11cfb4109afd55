"""Server optimisers: how the averaged update moves the model. Pure functions on float64 vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ServerSgd:
    """m ← βm + Δ;  w ← w + ηm  (FedAvg with β = 0, η = 1; FedAvgM, Hsu, Qi & Brown 2019, otherwise).

    Attributes:
        lr: server learning rate η.
        momentum: β.
        trainable: T; columns `[T, P)` are running statistics and move by the plain mean.
    """

    lr: float
    momentum: float
    trainable: int

    def init(self, model: Float32) -> dict[str, Float64]:
        """State for a model `[P]`."""
        return {"momentum": np.zeros(self.trainable)} if self.momentum else {}

    def step(self, model: Float32, state: Mapping[str, Float64], update: Float64) -> tuple[Float32, dict[str, Float64]]:
        """The next model `[P]` and state, from the averaged update `[P]`; the arguments are only read."""
        move = update.copy()
        after: dict[str, Float64] = {}
        if self.momentum:
            after["momentum"] = self.momentum * state["momentum"] + update[: self.trainable]
            move[: self.trainable] = after["momentum"]
        move[: self.trainable] *= self.lr
        move += model
        return move.astype(np.float32), after
