"""Canaries: clients that send random directions, and what a model that keeps some of them says about epsilon.

Andrew, Kairouz, Oh, Oprea, McMahan & Suriyakumar, "One-shot Empirical Privacy Estimation for Federated Learning", ICLR
2024, algorithms 1 and 2. In d dimensions the cosine of a random direction with anything that does not depend on it is
close to N(0, 1/d); those of canaries with the model's change are fitted by another Gaussian, and ε is how far the two
can be told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import SendContext, Setting, UpdateStage
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Bools, Float64, Int64
from raysim.errors import ConfigError
from raysim.privacy.gaussian import gaussian_epsilon
from raysim.privacy.searching import smallest

_UPDATE = "update"


class Canaries(UpdateStage):
    """Replaces what some clients send by a direction of their own, the same in every round."""

    breaks = frozenset({"bounded", "bounded_l1"})

    def __init__(self, columns: ModelColumns, first: int, norm: float = 1e3, silent: float = 0.0) -> None:
        super().__init__(columns)
        self._first, self._norm, self._silent = first, norm, silent

    def check(self, setting: Setting) -> None:
        if self._first >= setting.population:
            raise ConfigError(
                f"first is {self._first}, and clients are 0 to {setting.population - 1}: there is no canary; lower it"
            )
        if _UPDATE not in [field.name for field in setting.fields]:
            raise ConfigError("the algorithm sends no update that a direction could stand for; use another algorithm")

    def client(self, sent: Mapping[str, Tensor], ctx: SendContext) -> Mapping[str, Tensor]:
        quiet = silent(ctx.seed, ctx.clients, self._silent)
        for i in np.flatnonzero(ctx.clients >= self._first).tolist():
            for rows in sent.values():
                rows[i].zero_()
            if not quiet[i]:
                own = direction(ctx.seed, int(ctx.clients[i]), self.columns) * self._norm
                sent[_UPDATE][i, : len(own)] = torch.from_numpy(own).to(sent[_UPDATE])
        return sent


def silent(seed: int, clients: Int64, chance: float) -> Bools:
    """Which canaries send zeros, `[k]`."""
    found: Bools = keyed.uniform(seed, keyed.Purpose.CANARIES, clients) < chance
    return found


def direction(seed: int, client: int, columns: ModelColumns) -> Float64:
    """A canary's direction: a unit vector `[T]`, uniform over the parameters, zero in between them."""
    found = np.zeros(columns.trainable)
    parameters = [one for one in columns.segments if one.start < columns.trainable]
    drawn = keyed.generator(seed, keyed.Purpose.CANARIES, client).standard_normal(sum(one.size for one in parameters))
    taken = 0
    for one in parameters:
        found[one.start : one.start + one.size] = drawn[taken : taken + one.size]
        taken += one.size
    return found / np.linalg.norm(found)


@dataclass(frozen=True, slots=True)
class CanaryAudit:
    """What canaries say about a model.

    Attributes:
        canaries: that sent their directions.
        silent: that sent zeros.
        dimensions: of the model, d.
        mean, spread: of the canaries' cosines with the model's change, in units of 1/√d: 0 and 1 where it kept nothing.
        epsilon: the estimate, at `delta`.
        delta: of both epsilons.
        low: what it is at least, where the mean is at the lower end of its interval of confidence `level`, and the
            spread that of the canaries on both sides.
        level: confidence of `low`.
    """

    canaries: int
    silent: int
    dimensions: int
    mean: float
    spread: float
    epsilon: float
    low: float
    delta: float
    level: float


def audit(
    change: Float64, canaries: Sequence[Float64], dimensions: int, delta: float, level: float, quiet: int
) -> CanaryAudit:
    """Audit a model by its change `[T]` over a run, given the directions `[T]` of at least two canaries.

    Raises:
        ConfigError: there are fewer, or the model has not changed.
    """
    from scipy.stats import t

    length, k = float(np.linalg.norm(change)), len(canaries)
    if k < 2 or not length:
        raise ConfigError("an audit needs two canaries that sent something, and a model that has changed")
    cosines = np.array([one @ change for one in canaries]) / length * sqrt(dimensions)
    mean, spread = float(cosines.mean()), float(cosines.std(ddof=1))
    low = max(mean - float(t.ppf(level, k - 1)) * spread / sqrt(k), 0.0)
    found = gaussians_epsilon(mean, spread, delta)
    return CanaryAudit(
        k, quiet, dimensions, mean, spread, found, gaussian_epsilon(low / max(spread, 1.0), delta), delta, level
    )


def gaussians_epsilon(mean: float, spread: float, delta: float) -> float:
    """The least ε ≥ 0 at δ between N(mean, spread²) and N(0, 1), either way.

    δ(ε) = ∫ max(p - e^ε q, 0), summed on a grid that reaches 12 standard deviations beyond both.
    """
    low, high = min(-12.0, mean - 12 * spread), max(12.0, mean + 12 * spread)
    x = np.linspace(low, high, 40_001)
    one = -0.5 * ((x - mean) / spread) ** 2 - log(spread * sqrt(2 * np.pi))
    other = -0.5 * x**2 - log(sqrt(2 * np.pi))

    def reached(epsilon: float) -> bool:
        for p, q in ((one, other), (other, one)):
            kept = np.exp(p) * -np.expm1(np.minimum(epsilon + q - p, 0.0))
            if float(kept.sum() * (x[1] - x[0])) > delta:
                return False
        return True

    return 0.0 if reached(0.0) else smallest(reached, 0.0, 1.0, 1e-7)
