"""Local objectives that are tilted until their optima coincide with the global one.

Acar, Zhao, Navarro, Mattina, Whatmough & Saligrama, "Federated Learning Based on Dynamic Regularization", ICLR 2021,
algorithm 1: a client minimises F_k(θ) - <λ_k, θ> + α/2 ‖θ - w‖², then sets λ_k ← λ_k - α (θ_k - w). The server keeps
H = -h/α = Σ_t Σ_k p_k (θ_k - w), p_k being the clients' weights in the whole population, and sets
w ← Σ p_k θ_k + H, the mean being over the cohort.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector
from raysim.algorithms.control_variates import participation, refuse_loss_weights
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import FedDynConfig
from raysim.training import Clients, ParameterLayout, Some


class FedDyn(Algorithm):
    """Local steps along g - λ_k + α (θ - w), with dual variables λ_k that clients keep."""

    paper = "Acar et al. 2021, arXiv:2111.04263"

    def __init__(self, config: FedDynConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.alpha, self.lr = config.alpha, config.server_lr

    def check(self, experiment: Experiment) -> None:
        refuse_loss_weights(experiment, "feddyn")

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("dual", self.layout.trainable),)

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.add_(weights - b.broadcast[: b.trainable], alpha=self.alpha).sub_(b.state["dual"])

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("share", 1, summed=True, constant=True))

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        update = c.update()
        c.state["dual"].sub_(update[:, : c.trainable], alpha=self.alpha)
        return {"update": update, "share": participation(c)}

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"drift": np.zeros(self.layout.trainable)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        move, trainable = mean["update"].copy(), self.layout.trainable
        drift = state["drift"] + mean["share"] * move[:trainable]
        move[:trainable] = self.lr * (move[:trainable] + drift)
        return (move + model).astype(np.float32), {"drift": drift}
