"""How much each client counts. Weights are scaled to sum to at most 1 over the sampled cohort *before* training, as the
fixed-point sums demand, and normalised to exactly 1 over the clients that made it when the mean is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Float64, Int32, Int64
from raysim.config.server import (
    ExplicitWeightsConfig,
    LawWeightsConfig,
    LearnedWeightsConfig,
    LossWeightsConfig,
    SamplesWeightsConfig,
    WeightsConfig,
)

FLOOR = 1e-6
"""Least factor that the law gives a client: beyond it, sums of 52 fraction bits would lose its update."""


@dataclass(frozen=True, slots=True)
class Weighting:
    """A weighting scheme.

    A client's weight is `base · factor(loss)`: `base` is known when the cohort is drawn, `factor` where the scheme
    looks at the broadcast model's mean loss on the client's training samples.
    """

    config: WeightsConfig

    @property
    def needs_loss(self) -> bool:
        """Whether clients must evaluate the broadcast model before their first step."""
        return isinstance(self.config, LossWeightsConfig) or (
            isinstance(self.config, LawWeightsConfig) and self.config.loss != 0
        )

    def base(self, clients: Int64, samples: Int64, staleness: Int32 | None = None) -> Float64:
        """Weights of a cohort before the loss is known, float64 `[m]`, summing to at most 1; empty clients have 0.

        Args:
            clients: ids, `[m]`.
            samples: training samples, `[m]`.
            staleness: server steps that the version each starts from is old, `[m]`; None where none is.
        """
        raw = self.raw(clients, samples)
        if staleness is not None and isinstance(self.config, LawWeightsConfig):
            raw = raw * (1.0 + staleness) ** -self.config.staleness
        total = raw.sum()
        return raw / total if total > 0 else raw

    def raw(self, clients: Int64, samples: Int64) -> Float64:
        """Weights before they are normalised, on one scale for all clients, float64 `[m]`; empty clients have 0."""
        return np.where(samples > 0, self._raw(clients, samples), 0.0)

    def _raw(self, clients: Int64, samples: Int64) -> Float64:
        by_samples = isinstance(self.config, LearnedWeightsConfig) and self.config.base == "samples"
        if isinstance(self.config, SamplesWeightsConfig) and self.config.cap is not None:
            return np.minimum(samples / self.config.cap, 1.0)
        if isinstance(self.config, SamplesWeightsConfig) or by_samples:
            return samples.astype(np.float64)
        if isinstance(self.config, LawWeightsConfig):
            return np.maximum(samples, 1).astype(np.float64) ** self.config.samples
        if isinstance(self.config, ExplicitWeightsConfig):
            table, default = self.config.table, self.config.default
            return np.array([table.get(client, default) for client in clients.tolist()], dtype=np.float64)
        return np.ones(len(clients))

    def factor(self, loss: float) -> tuple[float, bool]:
        """The factor for a client of this loss, in (0, 1], and whether the loss had to be clamped to the stated range.

        A loss that is not finite gives NaN: the client is dropped.
        """
        if not isinstance(self.config, LossWeightsConfig | LawWeightsConfig):
            return 1.0, False
        if not np.isfinite(loss):
            return float("nan"), False
        low, high = self.config.low, self.config.high
        clamped = min(max(loss, low), high)
        if isinstance(self.config, LawWeightsConfig):
            best = low if self.config.loss >= 0 else high  # the loss whose factor is 1
            factor = float(np.exp(-self.config.loss * (clamped - best)))
            return max(factor, FLOOR), clamped != loss or factor < FLOOR
        factor = clamped / high if self.config.name == "loss" else low / clamped
        return factor, clamped != loss
