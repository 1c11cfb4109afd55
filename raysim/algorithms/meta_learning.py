"""A model from which one step on a client's own data leads far.

Fallah, Mokhtari & Ozdaglar, "Personalized Federated Learning with Theoretical Guarantees: A Model-Agnostic
Meta-Learning Approach" (Per-FedAvg), NeurIPS 2020, algorithm 1, first-order (FO): with two batches D and D',
w̃ = w - α ∇F_k(w; D) and w ← w - β ∇F_k(w̃; D'); the local models are averaged as in FedAvg.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from raysim.algorithms.base import Algorithm, plain_sgd_only
from raysim.config import Experiment
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.config.personal import PerFedAvgConfig
from raysim.training import Clients, LocalWork, ParameterLayout


class PerFedAvg(Algorithm):
    """FedAvg of steps along gradients that are taken one step ahead: w ← w - β ∇F_k(w - α ∇F_k(w; D); D')."""

    paper = "Fallah et al. 2020, arXiv:2002.07948"
    neutral = ("algorithm.adapt_lr=0", "client.batch_size=full")
    matrices = 1

    def __init__(self, config: PerFedAvgConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.adapt_lr = config.adapt_lr

    def check(self, experiment: Experiment) -> None:
        plain_sgd_only(experiment, "algorithm: perfedavg takes steps of its own along gradients one step ahead")

    @property
    def fine_tune(self) -> FineTuneConfig | None:
        return FineTuneConfig(steps=1, lr=self.adapt_lr)

    def work(self, client: ClientConfig) -> LocalWork:
        """As many steps as FedAvg takes, each with two batches."""
        whole = super().work(client)
        return replace(whole, epochs=2 * whole.epochs, steps=None if whole.steps is None else 2 * whole.steps)

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        before = c.new_rows("before")[:, : c.trainable]
        for b in c.batches():
            if b.number % 2 == 0:
                before[: b.k] = b.weights
                b.weights.add_(b.gradients(), alpha=-self.adapt_lr)
            else:
                torch.add(before[: b.k], b.gradients(), alpha=-b.lr, out=b.weights)
        ahead = (c.steps % 2 == 1).nonzero()[0].tolist()  # stragglers that stopped one step ahead
        c.weights[ahead] = before[ahead]
        return self.send(c)
