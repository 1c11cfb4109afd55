"""Noise of which each client adds a share to its integers, under masks: no party sees a sum with less than all of it.

* Kairouz, Liu & Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation",
  ICML 2021.
* Agarwal, Kairouz & Liu, "The Skellam Mechanism for Differentially Private Federated Learning", NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import ceil, log2, sqrt

import numpy as np

from raysim import keyed
from raysim.aggregation import FixedPoint, IntegerContext, IntegerNoise, MeanContext, Mechanism, Setting, UpdateStage
from raysim.aggregation.mechanism import MechanismKind
from raysim.aggregation.norms import of_data
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Float64, Int64
from raysim.config.protection import MaskedConfig
from raysim.config.server import PoissonConfig
from raysim.errors import ConfigError
from raysim.privacy.drawing import without_padding
from raysim.privacy.refusals import check_private

_TAILS = 9.0
"""Standard deviations beyond which noise is never seen: 10^-19."""
_LARGEST = 2e5
"""Standard deviation of a client's discrete Gaussian, whose table has twice nine times as many entries."""


class DistributedNoise(UpdateStage):
    """Adds a share of the noise to each client's integers before they are masked.

    A client's integers have an L2 norm of at most Δ = S / γ + √d: γ is the granularity, and rounding moves each of d
    values by less than 1. The noise of any `shares` of the cohort has the variance (z Δ)²; the protocol opens no sum of
    fewer. As for noise of the server, the sum is divided by a fixed denominator.
    """

    kind: MechanismKind
    roads = frozenset({"modular"})
    needs = frozenset({"bounded", "uniform_weights", "steady", "memoryless"})
    fixed = True

    def __init__(self, columns: ModelColumns, noise_multiplier: float, shares: float = 0.6) -> None:
        super().__init__(columns)
        self._multiplier, self._shares = noise_multiplier, shares

    def check(self, setting: Setting) -> None:
        """Also says what is released, which depends on the cohort and the format of the integers."""
        check_private(setting.experiment, setting.fields, self.columns)
        protection = setting.experiment.aggregation.protection
        if not isinstance(protection, MaskedConfig) or protection.clip is None:
            raise ConfigError(
                "a client's share of the noise protects nothing by itself, and is made of few bits; set "
                "aggregation.protection to {name: secagg, bits: 16, clip: …}"
            )
        if self._shares > protection.threshold:
            raise ConfigError(
                f"shares is {self._shares:g}, but a sum is opened with the records of {protection.threshold:g} of the "
                "cohort; lower shares, or raise aggregation.protection.threshold"
            )
        if isinstance(setting.experiment.selection, PoissonConfig):
            raise ConfigError("an empty Poisson cohort adds no noise; set selection to uniform or round_robin")
        if len(of_data(self.sent)) > 1:
            raise ConfigError("clients send several vectors; use an algorithm that sends one, such as fedavg")
        assert setting.bound is not None, "checked when the chain was built"
        (field,) = (one for one in self.sent if not one.constant)
        cohort, values = setting.cohort, self.columns.values(field.size)
        units = (2 ** (protection.bits - 1) - 1) / protection.clip
        norm = setting.bound.norm * units + sqrt(values)
        share = self._multiplier * norm / sqrt(self._needed(cohort))
        largest = cohort * min(setting.bound.norm, protection.clip) * units + _TAILS * sqrt(cohort) * share
        word = protection.bits + ceil(log2(cohort))
        if largest >= 2 ** (word - 1):
            raise ConfigError(
                f"a sum with its noise may reach {largest:.3g}, and a word of {word} bits has room for "
                f"{2 ** (word - 1):,}; raise aggregation.protection.clip"
            )
        if self.kind == "discrete_gaussian" and share > _LARGEST:
            raise ConfigError(
                f"a client's noise has a standard deviation of {share:.3g} units, more than {_LARGEST:g}; use skellam, "
                "or fewer bits"
            )
        of = IntegerNoise(sqrt(values) * norm, norm, self._needed(cohort), values)
        self.mechanism = Mechanism(self.kind, self._multiplier, "clients", integers=of)

    def integers(self, totals: Mapping[str, Int64], ctx: IntegerContext) -> None:
        assert ctx.bound is not None, "checked when the chain was built"
        for field in ctx.fields:
            if field.constant:
                continue
            assert isinstance(field.format, FixedPoint), "sums that are not exact are refused under masks"
            units = field.format.scale / ctx.total
            norm = ctx.bound.norm * units + sqrt(self.columns.values(field.size))
            deviation = self._multiplier * norm / sqrt(self._needed(ctx.cohort))
            for client in ctx.clients.tolist():
                generator = keyed.generator(ctx.seed, keyed.Purpose.INTEGER_NOISE, ctx.round, client)
                drawn = self._drawn(generator, deviation, field.size)
                totals[field.name][:] += without_padding(drawn, field.size, slice(0, field.size), self.columns)

    def server(
        self, mean: Mapping[str, Float64], state: Mapping[str, Float64], ctx: MeanContext
    ) -> tuple[Mapping[str, Float64], Mapping[str, Float64], Mapping[str, float]]:
        summed = {name: mean[name] * ctx.arrived for name in of_data(ctx.fields)}
        return {**mean, **summed}, state, {}

    def _needed(self, cohort: int) -> int:
        """Clients whose noise together is all of it."""
        return max(1, ceil(self._shares * cohort - 1e-9))

    def _drawn(self, generator: np.random.Generator, deviation: float, count: int) -> Int64:
        """Noise of this standard deviation on integers."""
        raise NotImplementedError


class DiscreteGaussian(DistributedNoise):
    """Noise k with a probability in proportion to exp(-k² / 2σ²)."""

    kind = "discrete_gaussian"

    def _drawn(self, generator: np.random.Generator, deviation: float, count: int) -> Int64:
        table = _distribution(deviation)
        found: Int64 = np.searchsorted(table, generator.random(count), side="right") - len(table) // 2
        return found


class Skellam(DistributedNoise):
    """The difference of two Poisson numbers, each of variance σ² / 2."""

    kind = "skellam"

    def _drawn(self, generator: np.random.Generator, deviation: float, count: int) -> Int64:
        half = deviation**2 / 2
        return generator.poisson(half, count) - generator.poisson(half, count)


@lru_cache(maxsize=4)
def _distribution(deviation: float) -> Float64:
    """The distribution function of a discrete Gaussian from -reach to reach."""
    reach = ceil(_TAILS * deviation) + 1
    mass = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    found: Float64 = np.cumsum(mass)
    found /= found[-1]
    return found
