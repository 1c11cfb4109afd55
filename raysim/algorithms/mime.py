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
from raysim.training import ClientContext, LocalWork, ParameterLayout, to_device


class MimeLite(Algorithm):
    """Local steps along (1-β) g + β m with the server's momentum m, which averages whole gradients at the broadcast."""

    paper = "Karimireddy et al. 2021, arXiv:2008.03606"
    neutral = ("algorithm.beta=0",)
    broadcast_state = ("mime",)
    needs_anchor = True

    def __init__(self, config: MimeLiteConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.beta = config.beta

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        grad.mul_(1 - self.beta).add_(context.server["mime"], alpha=self.beta)

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("gradient", self.layout.trainable))

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        assert context.anchor is not None, "needs_anchor is set"
        return {**super().send(rows, context), "gradient": context.anchor}

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
    needs_anchor = True
    needs_reference = True

    def __init__(self, config: MimeConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.beta = config.beta

    def check(self, experiment: Experiment) -> None:
        if experiment.client.clip_norm is not None:
            raise ConfigError(
                "client.clip_norm: mime's correction is exact for whole gradients only; leave it out, or use mimelite"
            )
        if isinstance(experiment.aggregation.weights, LearnedWeightsConfig):
            raise ConfigError("aggregation.weights: mime averages gradients in rounds without updates; use samples")

    def work(self, client: ClientConfig) -> LocalWork:
        return replace(super().work(client), rounds=2)

    def correct(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        assert context.reference is not None, "needs_reference is set"
        grad.sub_(context.reference).add_(context.server["gradient"])
        grad.mul_(1 - self.beta).add_(context.server["mime"], alpha=self.beta)

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("gradient", self.layout.trainable), Field("moved", 1))

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        moved = to_device((context.steps > 0).astype(np.float32), rows.device)[:, None]
        gradient = torch.zeros_like(context.grad) if context.anchor is None else context.anchor
        return {**super().send(rows, context), "gradient": gradient, "moved": moved}

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
