"""Stages that tests name by import string: noise as for privacy, top-k with error feedback, and broken ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysim import keyed
from raysim.aggregation import ClientVector, Field, Mechanism, UpdateStage


class Identity(UpdateStage):
    """Changes nothing."""


class Noise(UpdateStage):
    """Keyed normal noise on the mean, also in rounds without clients."""

    needs = frozenset({"bounded", "uniform_weights"})
    every_round = True
    metrics = ("rounds",)

    def __init__(self, columns: Any, deviation: float = 0.01) -> None:
        super().__init__(columns)
        self._deviation = deviation

    def init(self, model: Any) -> Mapping[str, Any]:
        return {"rounds": np.zeros(1), "total": np.zeros(self.columns.size)}

    def server(self, mean: Any, state: Any, ctx: Any) -> Any:
        at = np.arange(ctx.columns.start, ctx.columns.stop)
        u, v = (keyed.uniform(ctx.seed, keyed.Purpose.STUDY, ctx.round, at, part) for part in (0, 1))
        noise = self._deviation / ctx.expected * np.sqrt(-2 * np.log(1 - u)) * np.cos(2 * np.pi * v)
        after = {"rounds": state["rounds"] + 1, "total": state["total"] + noise}
        return {**mean, "update": mean["update"] + noise}, after, {"rounds": float(after["rounds"][0])}


class Accounted(Noise):
    """Says what it releases; its noise is scaled as for a hypothetical cohort, where there is one."""

    metrics = ("rounds", "factor")

    def __init__(
        self, columns: Any, noise_multiplier: float = 1.0, kind: Any = "gaussian", adds: Any = "server"
    ) -> None:
        super().__init__(columns, noise_multiplier)
        self.mechanism = Mechanism(kind, noise_multiplier, adds)

    def server(self, mean: Any, state: Any, ctx: Any) -> Any:
        found, after, metrics = super().server(mean, state, ctx)
        return found, after, {**metrics, "factor": ctx.noise}


class CappedNoise(Noise):
    """Noise that needs no equal weights."""

    needs = frozenset({"bounded", "bounded_weights"})


class BoundedSomehow(UpdateStage):
    """Does not say by how much."""

    gives = frozenset({"bounded"})


class TopK(UpdateStage):
    """The k largest values of each update; the rest is kept by the client, and added to its next update."""

    breaks = frozenset({"bounded"})

    def __init__(self, columns: Any, k: int = 20) -> None:
        super().__init__(columns)
        self._k = k

    def client_state(self) -> Sequence[ClientVector]:
        return (ClientVector("residual", self.columns.size),)

    def client(self, sent: Any, ctx: Any) -> Any:
        update, residual = sent["update"], ctx.state["residual"]
        for i in np.flatnonzero(ctx.steps > 0).tolist():
            whole = update[i] + residual[i]
            kept = torch.argsort(whole.abs(), descending=True, stable=True)[: self._k]
            update[i] = torch.zeros_like(whole).index_copy_(0, kept, whole[kept])
            residual[i] = whole - update[i]
        return sent

    def wire(self, sent: Any, ctx: Any) -> Any:
        return np.where(ctx.steps > 0, 8 * self._k, 0)


class Dying(UpdateStage):
    """Ends the process of the first client that comes to it, once."""

    roads = frozenset({"sum", "modular"})

    def __init__(self, columns: Any, mark: str) -> None:
        super().__init__(columns)
        self._mark = Path(mark)

    def client(self, sent: Any, ctx: Any) -> Any:
        if not self._mark.exists():
            self._mark.touch()
            os._exit(1)
        return sent


class Misnamed(UpdateStage):
    """Sends another shape than its fields say."""

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        return (*sent, Field("extra", 3))


class Failing(UpdateStage):
    """Fails for one client."""

    def client(self, sent: Any, ctx: Any) -> Any:
        raise ZeroDivisionError("no such record")


class FailingServer(UpdateStage):
    """Fails on the server."""

    def server(self, mean: Any, state: Any, ctx: Any) -> Any:
        return mean["nothing"], state, {}


class Undeclared(UpdateStage):
    """Records a metric that it does not declare."""

    def server(self, mean: Any, state: Any, ctx: Any) -> Any:
        return mean, state, {"more": 1.0}


class OnlySums(UpdateStage):
    """Works on sums alone."""

    roads = frozenset({"sum"})


NOT_A_STAGE = 3
