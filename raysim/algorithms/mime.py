"""The server's optimiser state in every local step.

Karimireddy, Jaggi, Kale, Mohri, Reddi, Stich & Suresh, "Breaking the centralized barrier for cross-device federated
learning" (Mime), NeurIPS 2021, algorithm 1, as MimeLite with SGD with momentum: clients step along
(1-β) g + β m with the server's m, which does not change meanwhile; afterwards m ← β m + (1-β) Σ p_k ∇F_k(w).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, Float32, Float64
from raysim.config.algorithms import MimeLite as MimeLiteConfig
from raysim.training import ClientContext, ParameterLayout


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
