"""Personal models as the proximal points of a model that is averaged.

T Dinh, Tran & Nguyen, "Personalized Federated Learning with Moreau Envelopes" (pFedMe), NeurIPS 2020, algorithm 1: for
every batch D, a client goes K gradient steps towards θ = argmin F(θ; D) + λ/2 ‖θ - w_i‖² and sets
w_i ← w_i - η λ (w_i - θ); the server sets w ← (1-β) w + β Σ p_i w_i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from raysim.algorithms.base import Algorithm, ClientVector, plain_sgd_only
from raysim.config import Experiment
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.config.personal import PFedMeConfig
from raysim.errors import ConfigError
from raysim.training import Clients, LocalWork, ParameterLayout


class PFedMe(Algorithm):
    """Clients seek θ_k, held near a w_k that follows it: w_k ← w_k - η λ (w_k - θ_k); the w_k are averaged."""

    paper = "T Dinh et al. 2020, arXiv:2006.08848"
    neutral = ("algorithm.inner_steps=1", "algorithm.strength=5", "algorithm.local_lr=0.2")
    matrices = 1

    def __init__(self, config: PFedMeConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.strength, self.inner_steps = config.strength, config.inner_steps
        self.share = config.local_lr * config.strength

    def check(self, experiment: Experiment) -> None:
        plain_sgd_only(experiment, "algorithm: pfedme takes steps of its own towards personal models")
        lr = experiment.client.optimizer.lr
        if lr * self.strength >= 2:
            raise ConfigError(
                f"algorithm.strength: steps of {lr:g} towards a personal model diverge where it is held by "
                f"{self.strength:g}; keep client.optimizer.lr · algorithm.strength below 2"
            )

    def work(self, client: ClientConfig) -> LocalWork:
        return replace(super().work(client), repeats=self.inner_steps)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("own", self.layout.size, "model"),)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        followed = c.new_rows("followed")[:, : c.trainable]  # w_k; the rows are θ_k
        for b in c.batches():
            near = followed[: b.k]
            for _ in range(self.inner_steps):
                grad = b.gradients().add_(b.weights - near, alpha=self.strength)
                b.weights.add_(grad, alpha=-b.lr)
            near.lerp_(b.weights, self.share)
        c.state["own"].copy_(c.rows)
        c.weights.copy_(followed)
        return self.send(c)

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return state["own"]
