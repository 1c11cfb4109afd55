"""A model for the worst mixture of the clients' data.

Mohri, Sivek & Suresh, "Agnostic Federated Learning", ICML 2019, algorithm 1 (Stochastic-AFL): min_w max_λ Σ_d λ_d F_d
over domains d and the simplex of λ; the model descends along Σ λ_d ∇F_d, and λ ← Π(λ + γ F(w)), Π being the Euclidean
projection onto the simplex. A client belongs to domain id mod D, so that with D = population each is one of its own.

With a cohort, the domains that are in it share out among themselves what λ they had, and the others keep theirs; if all
are in it, that is the paper's projection. λ is one vector on the server, however many clients there are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field, FixedPoint
from raysim.algorithms.base import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.fair_averaging import AflConfig
from raysim.config.server import UniformWeightsConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout, to_device

LOSS = FixedPoint(40)
"""Format of losses, which may be in the millions."""


class Afl(Algorithm):
    """Clients count by their domain's λ, which the server raises where losses are high: w ← w + η Σ λ_k Δ_k / Σ λ_k."""

    paper = "Mohri et al. 2019, arXiv:1902.00146"
    neutral = ("algorithm.rate=0",)
    columnwise = False  # λ is no vector over the columns, even where it is as long as one
    broadcast_state = ("lambda",)

    def __init__(self, config: AflConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        assert config.domains is not None, "made concrete where the population is known"
        self.domains, self.rate, self.low, self.high = config.domains, config.rate, config.low, config.high

    def check(self, experiment: Experiment) -> None:
        if not isinstance(experiment.aggregation.weights, UniformWeightsConfig):
            raise ConfigError(
                "aggregation.weights: afl learns how much clients count, and begins with all alike; set it to uniform"
            )

    def fields(self) -> tuple[Field, ...]:
        return (
            *super().fields(),
            Field("scale", 1, statistic=True),
            Field("loss", self.domains, LOSS, statistic=True),
            Field("present", self.domains, statistic=True),
        )  # fmt: skip

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        domain = to_device(c.clients % self.domains, c.rows.device)
        scale = c.server["lambda"][domain][:, None]
        present = torch.nn.functional.one_hot(domain, self.domains).to(c.rows.dtype)
        loss = present * c.losses([c.broadcast]).clamp(self.low, self.high).to(c.rows.dtype)
        return {"update": c.update().mul_(scale), "scale": scale, "loss": loss, "present": present}

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"lambda": np.full(self.domains, 1 / self.domains), **super().init(model)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        scale = float(mean["scale"][0])
        next_model, after = self.server.step(model, state, mean["update"] / (scale or 1.0))
        shares, here = state["lambda"].copy(), mean["present"] > 0
        losses = mean["loss"][here] / mean["present"][here]
        shares[here] = onto_simplex(shares[here] + self.rate * losses, float(shares[here].sum()))
        return next_model, {"lambda": shares, **after}


def onto_simplex(point: Float64, total: float) -> Float64:
    """The nearest point `[n]` whose elements are at least 0 and sum to `total` (Duchi et al. 2008, figure 1)."""
    if not len(point) or total <= 0:
        return np.zeros_like(point)
    falling = np.sort(point)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(point) + 1)
    last = np.flatnonzero(falling > excess)[-1]
    nearest: Float64 = np.maximum(point - excess[last], 0.0)
    return nearest
