"""Local steps that are held near the broadcast model.

Li, Sahu, Zaheer, Sanjabi, Talwalkar & Smith, "Federated Optimization in Heterogeneous Networks", MLSys 2020,
equation 2: a client minimises F_k(w) + µ/2 ‖w - w0‖².
"""

from __future__ import annotations

from torch import Tensor

from raysim.algorithms.base import Algorithm
from raysim.config.algorithms import FedProxConfig
from raysim.training import ParameterLayout, Some


class FedProx(Algorithm):
    """FedAvg with local gradients ∇F_k(w) + µ (w - w0), w0 being the broadcast model."""

    paper = "Li et al. 2020, arXiv:1812.06127"
    neutral = ("algorithm.mu=0",)

    def __init__(self, config: FedProxConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.mu = config.mu

    def correct(self, grad: Tensor, weights: Tensor, b: Some) -> None:
        if self.mu:
            grad.add_(weights - b.broadcast[: b.trainable], alpha=self.mu)
