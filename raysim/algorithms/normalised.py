"""Updates divided by how far their local steps reach.

Wang, Liu, Liang, Joshi & Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization",
NeurIPS 2020, equations 6 and 7: a client's update is -η G_k a_k, its gradients weighted by a vector a_k that its
optimiser decides; FedNova averages the normalised -η G_k a_k / ‖a_k‖₁ and goes τ_eff = Σ p_k ‖a_k‖₁ of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from raysim.aggregation import Field, FixedPoint
from raysim.algorithms.base import Algorithm, known_lengths_only
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import FedNovaConfig
from raysim.config.client import SgdConfig
from raysim.errors import ConfigError
from raysim.training import Clients, ParameterLayout, Some, to_device

LENGTH = FixedPoint(32)
"""Format of ‖a‖₁: up to 2·10⁹ local steps."""


@lru_cache(maxsize=64)
def lengths(steps: int, lr: float, momentum: float, nesterov: bool, mu: float) -> Float64:
    """‖a‖₁ after 0, 1, …, `steps` local steps: how far a row gets along gradients of 1, in units of the learning rate.

    Plain SGD gets τ far; with momentum β the paper has [τ - β(1-β^τ)/(1-β)] / (1-β), with the proximal term
    [1 - (1-ηµ)^τ] / ηµ (section 4.1); the recursion also does both at once.
    """
    reached, velocity, distances = 0.0, 0.0, [0.0]
    for _ in range(steps):
        pull = 1.0 - lr * mu * reached
        velocity = momentum * velocity + pull
        reached += pull + momentum * velocity if nesterov else velocity
        distances.append(reached)
    found = np.array(distances)
    found.flags.writeable = False
    return found


def reached(c: Clients, *, mu: float) -> Tensor:
    """‖a‖₁ of the clients' local SGD, float64 `[k, 1]`."""
    sgd = c.setting.optimizer
    assert isinstance(sgd, SgdConfig), "anything else is refused before the run starts"
    most = int(c.steps.max(initial=0))
    found = lengths(most, c.setting.lr, sgd.momentum, sgd.nesterov, mu)[c.steps]
    return to_device(found, c.rows.device)[:, None]


class FedNova(Algorithm):
    """FedAvg of normalised updates: w ← w + η_s (Σ p_k ‖a_k‖₁) Σ p_k (w_k - w) / ‖a_k‖₁."""

    paper = "Wang et al. 2020, arXiv:2007.07481"
    neutral = ("client.steps=3",)

    def __init__(self, config: FedNovaConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.mu = config.mu

    def check(self, experiment: Experiment) -> None:
        if not isinstance(experiment.client.optimizer, SgdConfig):
            raise ConfigError(
                f"algorithm: fednova normalises by the length of SGD steps, which {experiment.client.optimizer.name} "
                "has not; set client.optimizer to sgd"
            )
        known_lengths_only(experiment, "fednova")

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        if self.mu:
            grad.add_(weights - b.broadcast[: b.trainable], alpha=self.mu)

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("length", 1, LENGTH, statistic=True))

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        update = c.update()
        length = reached(c, mu=self.mu).to(update.dtype)
        update[:, : c.trainable] /= torch.where(length > 0, length, 1.0)
        return {"update": update, "length": length}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        update = mean["update"].copy()
        update[: self.layout.trainable] *= mean["length"]
        return self.server.step(model, state, update)
