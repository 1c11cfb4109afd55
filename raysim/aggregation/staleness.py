"""How much an update counts that was computed from an old version of the model."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.config import Experiment
from raysim.config.staleness import ConstantStalenessConfig, HingeStalenessConfig, StalenessConfig
from raysim.config.systems import BaseAsynchronousConfig, FedAsyncConfig


@dataclass(frozen=True, slots=True)
class Discount:
    """The factor α·s(τ) on an update that is τ server steps old: mixing weight times discount (Xie et al. 2019).

    It scales the update and not the client's weight: a step of K updates divides by what the K weigh, not by the sum of
    the discounted weights (Nguyen et al. 2022, Alg. 1).

    Attributes:
        law: s.
        mixing: α; 1 in a buffer of updates.
        models: whether the model is mixed with that of the client, and not moved along its update.

    Example:
        >>> from raysim.config.staleness import HingeStalenessConfig
        >>> [Discount(HingeStalenessConfig(a=10, b=4)).of(old) for old in (0, 4, 5)]
        [1.0, 1.0, 0.09090909090909091]
    """

    law: StalenessConfig
    mixing: float = 1.0
    models: bool = False

    def of(self, staleness: int) -> float:
        """The factor on an update this many server steps old, from 0."""
        if isinstance(self.law, ConstantStalenessConfig):
            return self.mixing
        if isinstance(self.law, HingeStalenessConfig):
            beyond = staleness - self.law.b
            return self.mixing * (1.0 if beyond <= 0 else 1 / (self.law.a * beyond + 1))
        return self.mixing * float((1 + staleness) ** -self.law.exponent)


FULL = Discount(ConstantStalenessConfig())
"""Nothing is discounted."""


def discount_of(experiment: Experiment) -> Discount:
    """The discount of old updates in an experiment's timetable."""
    timetable = experiment.systems.timetable
    if isinstance(timetable, FedAsyncConfig):
        return Discount(timetable.staleness, timetable.mixing, models=True)
    return Discount(timetable.staleness) if isinstance(timetable, BaseAsynchronousConfig) else FULL
