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
from raysim.training import ClientContext, LocalWork, ParameterLayout


class Apfl(Algorithm):
    """FedAvg, and beside it a model v_k of each client's own, which it uses mixed with the global one: α v_k + (1-α) w.

    While a step's gradient at the mixture is computed, w lies in `scratch`. `own` has v in the columns of parameters
    and in those of buffers the running statistics that the mixture collects. `shift` is how far α has moved.
    """

    paper = "Deng et al. 2020, arXiv:2003.13461"
    neutral = ()
    personal = True
    stepwise = True
    scratch = ("shared",)

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

    def start(self, rows: Tensor, context: ClientContext) -> None:
        rows.copy_(self.client_model(context.broadcast, context.state))

    def local_step(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        trainable, lr = context.trainable, context.setting.lr
        own, shared = context.state["own"], context.scratch["shared"]
        if context.step % 2 == 0:  # the rows are the mixtures
            alpha = self._alpha(context.state)
            if self.adaptive and context.step == 0:
                slope = ((own - shared)[:, :trainable] * grad).sum(dim=1, keepdim=True)
                context.state["shift"].copy_((alpha - lr * slope).clamp_(0.0, 1.0) - self.alpha)
            own[:, :trainable].addcmul_(grad, alpha, value=-lr)
            own[:, trainable:] = rows[:, trainable:]
            rows.copy_(shared)
        else:
            rows[:, :trainable].add_(grad, alpha=-lr)
            shared.copy_(rows)
            rows.copy_(self.client_model(shared, context.state))

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        return {"update": context.scratch["shared"].sub_(context.broadcast)}

    def client_model(self, broadcast: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        own, trainable = state["own"], self.layout.trainable
        mixed = torch.lerp(broadcast.expand_as(own), own, self._alpha(state))
        mixed[:, trainable:] = own[:, trainable:]
        return mixed

    def _alpha(self, state: Mapping[str, Tensor]) -> Tensor:
        """α of each client, `[k, 1]`."""
        return state["shift"] + self.alpha
