"""The server's optimiser state in every local step.

Karimireddy, Jaggi, Kale, Mohri, Reddi, Stich & Suresh, "Breaking the centralized barrier for cross-device federated
learning" (Mime), NeurIPS 2021, algorithm 1, with SGD with momentum. With c = Σ p_k ∇F_k(w) over the cohort, clients go

- MimeLite: along (1-β) ∇F_k(y; ζ) + β m,
- Mime: along (1-β) (∇F_k(y; ζ) - ∇F_k(w; ζ) + c) + β m, for which they must know c before their first step,

with the server's m, which does not change meanwhile; afterwards m ← β m + (1-β) c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import MimeConfig, MimeLiteConfig
from raysim.config.client import ClientConfig
from raysim.config.server import LearnedWeightsConfig
from raysim.errors import ConfigError
from raysim.training import Clients, LocalWork, ParameterLayout, Some, to_device


class MimeLite(Algorithm):
    """Local steps along (1-β) g + β m with the server's momentum m, which averages whole gradients at the broadcast."""

    paper = "Karimireddy et al. 2021, arXiv:2008.03606"
    neutral = ("algorithm.beta=0",)
    broadcast_state = ("mime",)

    def __init__(self, config: MimeLiteConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.beta = config.beta

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        gradient = c.full_gradient()
        c.descend(self.correct)
        return {**self.send(c), "gradient": gradient}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.mul_(1 - self.beta).add_(b.server["mime"], alpha=self.beta)

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("gradient", self.layout.trainable))

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"mime": np.zeros(self.layout.trainable), **super().init(model)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        next_model, after = super().apply(model, state, mean)
        return next_model, {"mime": self.beta * state["mime"] + (1 - self.beta) * mean["gradient"], **after}


class Mime(Algorithm):
    """MimeLite with every gradient corrected as in SVRG, by the cohort's c: (1-β) (g - g(w) + c) + β m.

    A cohort stays for two rounds: in the first its clients send the gradients that c is the average of, in the second
    they take their steps.
    """

    paper = "Karimireddy et al. 2021, arXiv:2008.03606"
    broadcast_state = ("mime", "gradient")

    def __init__(self, config: MimeConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.beta = config.beta

    def check(self, experiment: Experiment) -> None:
        if experiment.client.clip_norm is not None or any(one.clip_norm for one in experiment.client.groups):
            raise ConfigError(
                "client.clip_norm: mime's correction is exact for whole gradients only; leave it out, or use mimelite"
            )
        if isinstance(experiment.aggregation.weights, LearnedWeightsConfig):
            raise ConfigError("aggregation.weights: mime averages gradients in rounds without updates; use samples")

    def work(self, client: ClientConfig) -> LocalWork:
        return replace(super().work(client), rounds=2)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        if c.visit == 0:
            gradient = c.full_gradient()
        else:
            gradient = torch.zeros_like(c.weights)
            for b in c.batches():
                at_broadcast = b.peek(at=b.broadcast)
                grad = b.gradients().sub_(at_broadcast).add_(b.server["gradient"])
                b.move(grad.mul_(1 - self.beta).add_(b.server["mime"], alpha=self.beta))
        moved = to_device((c.steps > 0).astype(np.float32), c.rows.device)[:, None]
        return {"update": c.update(), "gradient": gradient, "moved": moved}

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("gradient", self.layout.trainable), Field("moved", 1, statistic=True))

    def init(self, model: Float32) -> dict[str, Float64]:
        trainable = self.layout.trainable
        return {"mime": np.zeros(trainable), "gradient": np.zeros(trainable), **super().init(model)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        if not mean["moved"].any():
            kept = {name: value.copy() for name, value in state.items()}
            return model.copy(), {**kept, "gradient": mean["gradient"].copy()}
        next_model, after = super().apply(model, state, mean)
        momentum = self.beta * state["mime"] + (1 - self.beta) * state["gradient"]
        return next_model, {"mime": momentum, "gradient": state["gradient"].copy(), **after}
