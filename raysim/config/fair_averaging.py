"""The `algorithm` section of those that look after the clients that are served worst."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from raysim.config.algorithm_base import AveragingConfig, BaseAlgorithmConfig, DataFacts

MOST_DOMAINS = 10_000
"""Clients beyond which each is not taken for a domain of its own unasked."""


class LossRangeConfig(BaseAlgorithmConfig):
    """What algorithms take that look at the clients' losses under the broadcast model."""

    low: float = Field(1e-3, gt=0)
    """Losses below are raised to this."""
    high: float = Field(10.0, gt=0)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> LossRangeConfig:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self


class QFedAvgConfig(LossRangeConfig):
    """Fairer accuracies: clients of high loss count more, by the power q (Li et al. 2020)."""

    name: Literal["qfedavg"] = "qfedavg"
    q: float = Field(1.0, ge=0)
    """Power q; 0 is FedAvg."""
    lipschitz: float | None = Field(None, gt=0)
    """Estimate L of the gradient's Lipschitz constant; by default 1 / the client learning rate, as in the paper."""

    @model_validator(mode="after")
    def _representable(self) -> QFedAvgConfig:
        if self.q * (math.log(self.high) - math.log(self.low)) > math.log(1e9) + 1e-9:  # the power itself may overflow
            raise ValueError(
                f"(high / low) ** q must be at most 1e9, as sums have 52 fraction bits; it is "
                f"({self.high} / {self.low}) ** {self.q}: raise low"
            )
        return self


class TermConfig(LossRangeConfig):
    """Tilted empirical risk: clients count in proportion to exp(t · loss) (Li et al. 2021)."""

    name: Literal["term"] = "term"
    t: float = Field(1.0)
    """Tilt t: above 0 towards the worst clients, below 0 towards the best; 0 is FedAvg."""

    @model_validator(mode="after")
    def _representable(self) -> TermConfig:
        if abs(self.t) * (self.high - self.low) > 20:
            raise ValueError(
                f"|t| · (high - low) must be at most 20, as sums have 52 fraction bits; it is "
                f"{abs(self.t) * (self.high - self.low):g}: lower high"
            )
        return self


class AflConfig(AveragingConfig):
    """Agnostic federated learning: a model for the worst mixture of domains, groups of clients (Mohri et al. 2019)."""

    name: Literal["afl"] = "afl"
    domains: int | None = Field(None, ge=1)
    """Domains D; a client is of domain id mod D. By default each is one of its own. A client sends 2D numbers."""
    rate: float = Field(0.1, ge=0)
    """Learning rate γ of the mixture λ; 0 is FedAvg with uniform weights."""
    low: float = Field(0.0, ge=0)
    """Losses below are raised to this."""
    high: float = Field(10.0, gt=0, le=1e6)
    """Losses above are lowered to this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def fitted(self, facts: DataFacts) -> Self:
        population = facts.population
        if self.domains is None and population > MOST_DOMAINS:
            raise ValueError(
                f"domains: one for each of {population:,} clients would travel with every record; set it, e.g. to 100"
            )
        if self.domains is not None and self.domains > population:
            raise ValueError(f"domains ({self.domains}) are more than the clients ({population}); lower it")
        return self.model_copy(update={"domains": self.domains or population})
