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
from raysim.training import ClientContext, LocalWork, ParameterLayout


class PerFedAvg(Algorithm):
    """FedAvg of steps along gradients that are taken one step ahead: w ← w - β ∇F_k(w - α ∇F_k(w; D); D')."""

    paper = "Fallah et al. 2020, arXiv:2002.07948"
    neutral = ("algorithm.adapt_lr=0", "client.batch_size=full")
    stepwise = True
    scratch = ("before",)

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

    def local_step(self, grad: Tensor, rows: Tensor, context: ClientContext) -> None:
        moved, before = rows[:, : context.trainable], context.scratch["before"][:, : context.trainable]
        if context.step % 2 == 0:
            before.copy_(moved)
            moved.add_(grad, alpha=-self.adapt_lr)
        else:
            torch.add(before, grad, alpha=-context.setting.lr, out=moved)

    def send(self, rows: Tensor, context: ClientContext) -> Mapping[str, Tensor]:
        trainable = slice(context.trainable)
        for one in (context.steps % 2 == 1).nonzero()[0].tolist():  # stragglers that stopped one step ahead
            rows[one, trainable] = context.scratch["before"][one, trainable]
        return {"update": rows.sub_(context.broadcast)}
