"""A global model, and beside it one for each client that is held near it.

Li, Hu, Beirami & Smith, "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021, algorithm 1: a
client takes its steps for the global model as in FedAvg, and as many along ∇F_k(v_k) + λ (v_k - w) for its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from raysim.algorithms.base import Algorithm, ClientVector
from raysim.config.personal import DittoConfig
from raysim.training import Clients, ParameterLayout, Some


class Ditto(Algorithm):
    """FedAvg, and a model of each client's own that is drawn towards it: v_k ← v_k - η (∇F_k(v_k) + λ (v_k - w))."""

    paper = "Li et al. 2021, arXiv:2012.04221"
    neutral = ()

    def __init__(self, config: DittoConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.strength = config.strength

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("own", self.layout.size, "model"),)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        own = c.state["own"]
        c.rows.copy_(own)
        c.descend(self.correct)
        own.copy_(c.rows)
        c.rows.copy_(c.broadcast)
        c.descend()
        return self.send(c)

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        if self.strength:
            grad.add_(weights - b.broadcast[: b.trainable], alpha=self.strength)

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        return state["own"]
