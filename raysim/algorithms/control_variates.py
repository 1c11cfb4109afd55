"""Gradients corrected by how a client's differ from those of the federation.

Karimireddy, Kale, Mohri, Reddi, Stich & Suresh, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning",
ICML 2020, algorithm 1. Local steps go along g - c_i + c; afterwards (equation 4)

- option I: c_i ← ∇F_i(w), the gradient of the client's whole shard at the broadcast model;
- option II: c_i ← c_i - c + (w - w_i) / (K η_l).

The server keeps c = Σ p_i c_i over the whole population, p_i being the clients' weights (the paper's are equal).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector, known_lengths_only
from raysim.algorithms.normalised import reached
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import ScaffoldConfig
from raysim.config.client import SgdConfig
from raysim.config.server import LossWeightsConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout, Some, to_device


class Scaffold(Algorithm):
    """Local steps along g - c_i + c, with control variates c_i that clients keep and their average c."""

    paper = "Karimireddy et al. 2020, arXiv:1910.06378"
    neutral = ("rounds=1",)
    broadcast_state = ("control",)

    def __init__(self, config: ScaffoldConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.option = config.option

    def check(self, experiment: Experiment) -> None:
        refuse_loss_weights(experiment, "scaffold")
        if self.option == 2 and not isinstance(experiment.client.optimizer, SgdConfig):
            raise ConfigError(
                f"algorithm: scaffold's option 2 reads mean gradients off the steps of SGD, which it cannot off those "
                f"of {experiment.client.optimizer.name}; set client.optimizer to sgd, or algorithm.option to 1"
            )
        if self.option == 2:
            known_lengths_only(experiment, "scaffold's option 2")

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("control", self.layout.trainable),)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        server, own = c.server["control"], c.state["control"]
        gradient = c.full_gradient() if self.option == 1 else None
        c.descend(self.correct)
        update = c.update()
        if gradient is not None:
            change = gradient - own
        else:
            distance = (c.setting.lr * reached(c, mu=0.0)).to(update.dtype)
            change = update[:, : c.trainable] / -torch.where(distance > 0, distance, 1.0)
            change.sub_(server)
        change[to_device(np.flatnonzero(c.steps == 0), change.device)] = 0.0
        own += change
        return {"update": update, "control": change, "share": participation(c)}

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        grad.add_(b.server["control"]).sub_(b.state["control"])

    def fields(self) -> tuple[Field, ...]:
        return (
            *super().fields(),
            Field("control", self.layout.trainable),
            Field("share", 1, summed=True, constant=True),
        )

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"control": np.zeros(self.layout.trainable), **super().init(model)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        next_model, after = super().apply(model, state, mean)
        return next_model, {"control": state["control"] + mean["share"] * mean["control"], **after}


def participation(c: Clients) -> Tensor:
    """The cohort's share of the population's weight, as a field `[K, 1]` to be summed: Σ p_k share is that of the
    contributors."""
    return c.rows.new_full((c.k, 1), c.setting.participation)


def refuse_loss_weights(experiment: Experiment, name: str) -> None:
    """Averages over the whole population need weights that do not change from round to round.

    Raises:
        ConfigError: they do.
    """
    if isinstance(experiment.aggregation.weights, LossWeightsConfig):
        raise ConfigError(
            f"aggregation.weights: {name} keeps averages over all clients, whose weights may not depend on the round; "
            "use samples, uniform or explicit"
        )
