"""An audit of the noise that a chain of stages really adds: the release of a round with and without one client.

The client sends a canary, clipped as any record is. A test tells the two apart by how far the noised sum points along
it, which is the likelihood ratio of Gaussian noise. What the test achieves bounds epsilon from below, whatever an
accountant says (Jagielski, Ullman & Oprea, "Auditing Differentially Private Machine Learning", NeurIPS 2020; Nasr et
al. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Aggregation, MeanContext, Mechanism, SendContext
from raysim.arrays import Float64
from raysim.config.privacy import PrivacyConfig
from raysim.errors import ConfigError
from raysim.privacy.accounting import PrivacyAccount
from raysim.privacy.deriving import account_for
from raysim.privacy.drawing import columns_of, normal, without_padding
from raysim.privacy.gaussian import gaussian_epsilon
from raysim.privacy.sampling import Sampling

CONFIDENCE = 0.95
TELLING = 0.01
"""A delta at which few releases prove much: what holds at a small delta must hold at this one, too."""
_THRESHOLDS = 200
_SCALES = (1e9, 1e6, 1e3, 1.0, 1e-3)
"""Lengths of canaries that are tried."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """What a test of one round's release found at one delta.

    Attributes:
        delta: of every epsilon here.
        claimed: epsilon of a round that the client is in, as it is accounted for.
        lower: epsilon is above this with `CONFIDENCE`, whatever the noise.
        lower_if_gaussian: the same, where the noise is Gaussian.
    """

    delta: float
    claimed: float
    lower: float
    lower_if_gaussian: float

    @property
    def holds(self) -> bool:
        """Whether what was found is compatible with what is claimed."""
        return max(self.lower, self.lower_if_gaussian) <= self.claimed


@dataclass(frozen=True, slots=True)
class MechanismAudit:
    """An audit of one round's release.

    Attributes:
        findings: at the delta asked for, and at `TELLING`.
        trials: releases with the client, and as many without.
        deviation: of the noise, over how far the client moves the release: the noise multiplier that is found.
    """

    findings: tuple[AuditFinding, ...]
    trials: int
    deviation: float

    @property
    def holds(self) -> bool:
        """Whether all that was found is compatible with what is claimed."""
        return all(one.holds for one in self.findings)


def audit_mechanism(
    aggregation: Aggregation, *, expected_weight: float, delta: float, trials: int = 10_000, seed: int = 0
) -> MechanismAudit:
    """Audit the noise of a chain.

    Args:
        aggregation: with the stages, whose own client and server halves are called.
        expected_weight: Σ of the weights of a cohort, on average.
        delta: at which epsilon is compared, besides `TELLING`.
        trials: releases with the client, and as many without; 10,000 tell noise from half of it.
        seed: of the canary and the releases.

    Raises:
        ConfigError: no stage adds noise, or the clients add it together.
    """
    mechanisms = [stage.mechanism for stage in aggregation.stages if stage.mechanism is not None]
    if not mechanisms:
        raise ConfigError("aggregation.stages: no stage adds noise, so that there is nothing to audit")
    if any(one.adds == "clients" for one in mechanisms):
        raise ConfigError("aggregation.stages: an audit looks at noise of the server or of each client, not at shares")
    accounts = [_account(mechanisms, one) for one in (delta, TELLING)]
    local = any(one.adds == "each_client" for one in mechanisms)
    releases = _Releases(aggregation, expected_weight, seed, local=local)
    there = np.array([releases.along(True, 2 * i) for i in range(trials)])
    not_there = np.array([releases.along(False, 2 * i + 1) for i in range(trials)])
    spread = sqrt((there.var(ddof=1) + not_there.var(ddof=1)) / 2)
    moved = abs(float(there.mean() - not_there.mean()))
    findings = (
        AuditFinding(
            one.delta,
            one.epsilon(1),
            lower_bound(there, not_there, one.delta),
            _if_gaussian(mechanisms, moved, spread, trials, one.delta),
        )
        for one in accounts
    )
    return MechanismAudit(tuple(findings), trials, spread / moved * (2 if local else 1) if moved else inf)


def _account(mechanisms: Sequence[Mechanism], delta: float) -> PrivacyAccount:
    """Of a round that the client is in for sure."""
    found = account_for(mechanisms, Sampling("everyone", 2, 2), PrivacyConfig(delta=delta))
    if not isinstance(found, PrivacyAccount):
        raise ConfigError(f"aggregation.stages: {found}")
    return found


def lower_bound(there: Float64, not_there: Float64, delta: float, confidence: float = CONFIDENCE) -> float:
    """The epsilon that samples of a statistic prove, with and without a client; 0 where they prove none.

    A quarter of the samples chooses the threshold and the direction of a test, the rest bounds its errors (Clopper &
    Pearson): ε >= log((true positives - δ) / false positives).
    """
    from scipy.stats import norm

    first, chance = len(there) // 4, (1 - confidence) / 2

    def proven(hits: float, misses: float, count: int) -> float:
        sure, most = _at_least(hits, count, chance), _at_most(misses, count, chance)
        return log((sure - delta) / most) if sure > delta else 0.0

    def hoped(direction: float, threshold: float) -> float:
        """What the test should prove, by the mean and deviation of the first samples."""
        hits, misses = (
            len(one) * float(norm.sf(threshold, direction * one[:first].mean(), max(float(one[:first].std()), 1e-12)))
            for one in (there, not_there)
        )
        return proven(hits, misses, len(there))

    candidates = [
        (direction, float(threshold))
        for direction in (1.0, -1.0)
        for threshold in np.quantile(direction * not_there[:first], np.linspace(0.5, 1, _THRESHOLDS))
    ]
    direction, threshold = max(candidates, key=lambda one: hoped(*one))
    hits, misses = (int((direction * one[first:] > threshold).sum()) for one in (there, not_there))
    return max(proven(hits, misses, len(there) - first), 0.0)


def _at_least(count: float, trials: int, chance: float) -> float:
    """A probability is above this, but for `chance`, where it came true so often."""
    from scipy.stats import beta

    return float(beta.ppf(chance, count, trials - count + 1)) if count else 0.0


def _at_most(count: float, trials: int, chance: float) -> float:
    """A probability is below this, but for `chance`, where it came true so often."""
    from scipy.stats import beta

    return float(beta.ppf(1 - chance, count + 1, trials - count)) if count < trials else 1.0


def _if_gaussian(mechanisms: Sequence[Mechanism], moved: float, spread: float, trials: int, delta: float) -> float:
    """The epsilon of the least distance that is compatible with mean and deviation; 0 for other noise."""
    from scipy.stats import chi2, norm

    if any(one.kind == "laplace" for one in mechanisms):
        return 0.0
    chance = (1 - CONFIDENCE) / 2
    freedom = 2 * trials - 2
    widest = spread * sqrt(freedom / chi2.ppf(chance, freedom))
    nearest = moved - norm.ppf(1 - chance) * spread * sqrt(2 / trials)
    return gaussian_epsilon(max(float(nearest / widest), 0.0), delta)


class _Releases:
    """Releases of the first round of a chain, each with noise of its own."""

    def __init__(self, aggregation: Aggregation, expected_weight: float, seed: int, *, local: bool) -> None:
        self._aggregation, self._weight, self._local = aggregation, expected_weight, local
        self._fields = aggregation.sent[0]
        columns = aggregation.stages[0].columns
        self._whole = slice(0, columns.size)
        self._state = aggregation.init(np.zeros(columns.size, np.float32))
        self._base = 1 + (seed << 32)
        self._name, size = next((field.name, field.size) for field in self._fields if not field.constant)
        drawn = normal("keyed", seed, keyed.Purpose.NOISE, (0,), slice(0, size))
        drawn = without_padding(drawn, size, columns_of(size, self._whole, columns), columns)
        self._direction = drawn / np.linalg.norm(drawn)
        # The longest record that the client halves let through: a clip shortens the canary, a stage `zero` removes it.
        self._scale = max(_SCALES, key=self._length)
        sent = self._sent(self._scale, 0)
        self._there = {name: rows[0].double().numpy() for name, rows in sent.items()}

    def along(self, present: bool, number: int) -> float:
        """How far a release points along the canary: with the client, or without it (with the opposite canary, where
        its own message is what is seen)."""
        if self._local:
            sent = self._sent(self._scale if present else -self._scale, number)
            return float(sent[self._name][0].double().numpy() @ self._direction)
        mean = self._there if present else {name: np.zeros_like(one) for name, one in self._there.items()}
        context = MeanContext(self._base + number, 1, (), self._whole, int(present), 1, self._weight)
        found, _, _ = self._aggregation.server(mean, self._state, context)
        return float(found[self._name] @ self._direction)

    def _length(self, scale: float) -> float:
        """How long a canary comes out of the client halves; noise that they add by a key is the same both times."""
        there, opposite = (self._sent(sign * scale, 0)[self._name].double() for sign in (1, -1))
        return float((there - opposite).norm()) / 2

    def _sent(self, scale: float, number: int) -> dict[str, Tensor]:
        """What a client with a canary of this length sends, through the client halves."""
        rows = {field.name: torch.zeros(1, field.size) for field in self._fields}
        rows[self._name] = torch.from_numpy((scale * self._direction).astype(np.float32)[None, :])
        shared = self._aggregation.broadcast(self._state)
        server = {name: torch.from_numpy(vector.astype(np.float32)) for name, vector in shared.items()}
        state = {vector.name: torch.zeros(1, vector.size) for vector in self._aggregation.client_state()}
        ids = np.zeros(1, dtype=np.int64)
        block = SendContext(self._base + number, 1, ids, ids + 1, state, server)
        return dict(self._aggregation.client(rows, block)[0])
