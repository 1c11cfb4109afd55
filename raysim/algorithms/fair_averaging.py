"""Clients that the broadcast model serves badly count more.

- q-FedAvg: Li, Sanjabi, Beirami & Smith, "Fair Resource Allocation in Federated Learning", ICLR 2020, algorithm 2:
  w ← w - Σ p_k F_k^q L(w - w_k) / Σ p_k h_k,  h_k = q F_k^(q-1) ‖L(w - w_k)‖² + L F_k^q.
- TERM: Li, Beirami, Sanjabi & Smith, "Tilted Empirical Risk Minimization", ICLR 2021, equation 3 and algorithm 3:
  the gradient of 1/t log Σ p_k exp(t F_k) weighs clients by p_k exp(t F_k) / Σ p_j exp(t F_j).

Both are quotients of two sums, so a common factor of the addends cancels: losses count as a share of the largest that
is let through, which keeps addends in the range of fixed point. F_k is the broadcast model's mean loss on the client's
training samples, clamped to [low, high].
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from raysim.aggregation import Field, FixedPoint
from raysim.algorithms.base import Algorithm, one_rate_only
from raysim.arrays import Float32, Float64
from raysim.config import Experiment
from raysim.config.fair_averaging import QFedAvgConfig, TermConfig
from raysim.training import Clients, ParameterLayout

STEP = FixedPoint(40)
"""Format of q-FedAvg's h_k, relative to L·high^q; it may be in the millions."""


class _Quotient(Algorithm):
    """w ← w + η Σ p_k s_k (w_k - w) / Σ p_k h_k, running statistics with h_k = s_k."""

    def __init__(self, config: QFedAvgConfig | TermConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.low, self.high = config.low, config.high

    def clamped(self, c: Clients) -> Tensor:
        """The clients' losses in [low, high], float64 `[K, 1]`."""
        return c.losses([c.broadcast]).clamp(self.low, self.high)

    def fields(self) -> tuple[Field, ...]:
        return (*super().fields(), Field("scale", 1, statistic=True), Field("step", 1, STEP, statistic=True))

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        update, trainable = mean["update"].copy(), self.layout.trainable
        update[:trainable] *= _inverse(mean["step"])
        update[trainable:] *= _inverse(mean["scale"])
        return self.server.step(model, state, update)


class QFedAvg(_Quotient):
    """Fairness by powers of the loss: minimises Σ p_k F_k^(q+1) / (q+1) with steps that need no tuning for each q."""

    paper = "Li et al. 2020, arXiv:1905.10497"
    neutral = ("algorithm.q=0",)

    def __init__(self, config: QFedAvgConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.q, self.lipschitz = config.q, config.lipschitz

    def check(self, experiment: Experiment) -> None:
        if self.lipschitz is None:
            one_rate_only(experiment, "qfedavg takes the Lipschitz constant for 1 / lr; set algorithm.lipschitz")

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        loss, update = self.clamped(c), c.update()
        lipschitz = self.lipschitz if self.lipschitz is not None else 1 / max(c.setting.lr, 1e-12)
        scale = (loss / self.high).pow(self.q)
        square = update[:, : c.trainable].square().sum(dim=1, keepdim=True)
        step = scale * (1 + self.q * lipschitz * square / loss)
        return {"update": update.mul_(scale.to(update.dtype)), "scale": scale.float(), "step": step.float()}


class Term(_Quotient):
    """Fairness (t > 0) or robustness (t < 0) by tilting: clients count in proportion to exp(t · loss)."""

    paper = "Li et al. 2021, arXiv:2007.01162"
    neutral = ("algorithm.t=0",)

    def __init__(self, config: TermConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.t = config.t

    def send(self, c: Clients) -> Mapping[str, Tensor]:
        most = self.high if self.t > 0 else self.low
        scale = (self.t * (self.clamped(c) - most)).exp().float()
        return {"update": c.update().mul_(scale), "scale": scale, "step": scale}


def _inverse(value: Float64) -> Float64:
    """1/x, and 1 where nothing was sent at all."""
    return 1 / np.where(value == 0, 1.0, value)
