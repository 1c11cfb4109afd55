"""Mixtures of a model of each client's own and the global one.

Deng, Kamani & Mahdavi, "Adaptive Personalized Federated Learning" (APFL), 2020, algorithm 1: a client uses
v̄ = α v + (1-α) w. In every local step both parts see the same batch: v ← v - η α ∇F_k(v̄) and w ← w - η ∇F_k(w), of
which w is averaged as in FedAvg. An adaptive α takes a step of its own on the first batch of a round:
α ← α - η <v - w, ∇F_k(v̄)>, within [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from raysim.algorithms.base import Algorithm, ClientVector, plain_sgd_only
from raysim.config import Experiment
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.config.personal import ApflConfig
from raysim.training import Clients, LocalWork, ParameterLayout


class Apfl(Algorithm):
    """FedAvg, and beside it a model v_k of each client's own, which it uses mixed with the global one: α v_k + (1-α) w.

    `own` has v in the columns of parameters, and in those of buffers the running statistics that the mixture collects.
    `shift` is how far α has moved.
    """

    paper = "Deng et al. 2020, arXiv:2003.13461"
    neutral = ()

    def __init__(self, config: ApflConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.alpha, self.adaptive = config.alpha, config.adaptive

    def check(self, experiment: Experiment) -> None:
        plain_sgd_only(experiment, "algorithm: apfl takes steps of its own in two models at once")

    def work(self, client: ClientConfig) -> LocalWork:
        return replace(super().work(client), repeats=2)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    def client_state(self) -> tuple[ClientVector, ...]:
        return (ClientVector("own", self.layout.size, "model"), ClientVector("shift", 1))

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        trainable = c.trainable
        for b in c.batches():
            own, alpha = b.state["own"], self._alpha(b.state)
            mixed = self.client_model(b.rows, b.state)
            grad = b.gradients(at=mixed)
            if self.adaptive and b.number == 0:
                slope = ((own - b.rows)[:, :trainable] * grad).sum(dim=1, keepdim=True)
                b.state["shift"].copy_((alpha - b.lr * slope).clamp_(0.0, 1.0) - self.alpha)
            own[:, :trainable].addcmul_(grad, alpha, value=-b.lr)
            own[:, trainable:] = mixed[:, trainable:]
            b.weights.add_(b.gradients(), alpha=-b.lr)
        return self.send(c)

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        own, trainable = state["own"], self.layout.trainable
        mixed = torch.lerp(broadcast.expand_as(own), own, self._alpha(state))
        mixed[:, trainable:] = own[:, trainable:]
        return mixed

    def _alpha(self, state: Mapping[str, Tensor]) -> Tensor:
        """α of each client, `[k, 1]`."""
        return state["shift"] + self.alpha
