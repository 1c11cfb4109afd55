"""A server learning rate from how much the clients' updates disagree.

Jhunjhunwala, Wang & Joshi, "FedExP: Speeding Up Federated Averaging via Extrapolation", ICLR 2023, equation 9:
η = max(1, Σ p_k ‖Δ_k‖² / 2(‖Σ p_k Δ_k‖² + ε)).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from raysim.aggregation import Field, FixedPoint
from raysim.algorithms.base import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config.algorithms import FedExpConfig
from raysim.training import Clients, ParameterLayout

NORM = FixedPoint(40)
"""Format of ‖Δ‖², which may be in the millions."""


class FedExp(Algorithm):
    """FedAvg that goes further where updates disagree: w ← w + max(1, Σ p_k ‖Δ_k‖² / 2(‖Δ‖² + ε)) Δ."""

    paper = "Jhunjhunwala et al. 2023, arXiv:2301.09604"
    neutral = ("algorithm.epsilon=1e12",)
    columnwise = False

    def __init__(self, config: FedExpConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.lr, self.epsilon = config.server_lr, config.epsilon

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("square", 1, NORM, statistic=True))

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        update = c.update()
        return {"update": update, "square": update[:, : c.trainable].square().sum(dim=1, keepdim=True)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        update, trainable = mean["update"].copy(), self.layout.trainable
        agreed = float(np.square(update[:trainable]).sum())
        bound = 2 * (agreed + self.epsilon)
        update[:trainable] *= self.lr * max(1.0, float(mean["square"][0]) / bound if bound else 1.0)
        return (update + model).astype(np.float32), {}
