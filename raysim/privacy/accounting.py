"""What the noise of a chain of stages is worth: ε by round, for the mechanisms and the sampler of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, inf, sqrt
from typing import Literal

import numpy as np

from raysim.aggregation.mechanism import Mechanism
from raysim.arrays import Float64, Int64
from raysim.config.example_privacy import poisson_tail
from raysim.privacy import renyi
from raysim.privacy.accountants import cut_pld_epsilon, fixed_size_rdp, sampled_pld_epsilon, sampled_rdp
from raysim.privacy.factorisation import blt_coefficients, sensitivity, tree_sensitivity
from raysim.privacy.gaussian import gaussian_epsilon
from raysim.privacy.sampling import Adjacency, Sampling
from raysim.privacy.searching import last_round

Accountant = Literal["pld", "rdp", "legacy"]

INTEGERS = frozenset({"discrete_gaussian", "skellam"})
"""Kinds of noise on integers."""
_REFINEMENTS = 50
_LARGE = 500.0
_LEAST = 0.2
"""Noise multiplier below which a sample's epsilon is that of all clients: tens a round, too many losses to add up."""
_LOOKS = 32
"""Rounds at which a curve is exact where a look takes milliseconds; elsewhere sixteen times as many."""


@dataclass(frozen=True, slots=True)
class EpsilonCurve:
    """Epsilon by round, exact in some rounds; in those between, the epsilon of the next of them, which is larger.

    Attributes:
        rounds: ascending, the last one that counts at the end, int64 `[n]`.
        epsilons: after each, float64 `[n]`.
    """

    rounds: Int64
    epsilons: Float64

    def at(self, round_number: int) -> float:
        """After a round, at most the last one."""
        return float(self.epsilons[np.searchsorted(self.rounds, round_number)])


@dataclass(frozen=True, slots=True)
class ExampleReleases:
    """What a client releases of its samples in the rounds of a run: a noisy sum of each of its Poisson batches.

    Attributes:
        steps: batches of a client in a round.
        clients: what draws the cohorts.
        largest: samples that are kept of a batch, chosen at random where there are more.
    """

    steps: int
    clients: Sampling
    largest: int

    def batches(self, rounds: int) -> int:
        """Of a client, at most."""
        return self.steps * self.clients.recurrence(rounds).most


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """What a run releases, and for which neighbours it is accounted for.

    Attributes:
        mechanisms: of the stages, in a round.
        sampling: what draws the cohorts.
        delta: of (ε, δ).
        accountant: what composes the rounds.
        adjacency: of the neighbours.
        hypothetical: clients of the cohort that noise is scaled for, where the run has fewer.
        examples: where single samples are protected, not clients: `sampling` is then that of a client's batches.
    """

    mechanisms: tuple[Mechanism, ...]
    sampling: Sampling
    delta: float
    accountant: Accountant
    adjacency: Adjacency
    hypothetical: int | None = None
    examples: ExampleReleases | None = None

    def epsilon(self, rounds: int) -> float:
        """ε after this many rounds."""
        if self.examples is None:
            return self._composed(rounds)
        batches, found = self.examples.batches(rounds), 0.0
        alone = replace(self, examples=None)
        if not alone.amplified:
            return alone._composed(batches)
        batch, samples, largest = self.sampling.cohort, self.sampling.population, self.examples.largest
        if self.accountant == "pld":
            replaced = self.adjacency == "replace_one"
            noise = self.noise_multiplier
            return cut_pld_epsilon(noise, samples, batch, largest, batches, self.delta, replace=replaced)
        overflow = poisson_tail(batch, largest)
        for _ in range(_REFINEMENTS):  # a batch that is cut short costs delta, the more the larger epsilon is
            paid = (1 + exp(found)) * batches * overflow if found < _LARGE else inf
            if paid >= self.delta:
                return inf
            now = replace(self, examples=None, delta=self.delta - paid)._composed(batches)
            if now <= found + 1e-6:
                return found + 1e-6
            found = now
        return inf

    def _composed(self, rounds: int) -> float:
        """ε of this many releases."""
        if rounds == 0:
            return 0.0
        kinds = {one.kind for one in self.mechanisms}
        if "laplace" in kinds:
            return self._laplace(rounds)
        if kinds & INTEGERS:
            return self._renyi(renyi.ORDERS, self._integers(rounds))
        if not self.amplified:
            distance = self.distance(rounds)
            if self.accountant == "pld":
                return gaussian_epsilon(distance, self.delta)
            return self._renyi(renyi.ORDERS, renyi.gaussian(distance))
        noise, rate = self.noise_multiplier, self.sampling.rate
        if self.accountant == "pld":
            replaced = self.adjacency == "replace_one"
            return sampled_pld_epsilon("gaussian", noise, rate, rounds, self.delta, replace=replaced)
        if self.sampling.kind == "poisson":
            orders, once = sampled_rdp(noise, rate)
            return self._renyi(orders, rounds * once)
        orders, once = fixed_size_rdp(noise / self._moved, self.sampling.cohort, self.sampling.population)
        found = self._renyi(orders, rounds * once)
        # The bound is loose where most clients are in a sample.
        return found if self.accountant == "legacy" else min(found, gaussian_epsilon(self.distance(rounds), self.delta))

    def without_amplification(self, rounds: int) -> float | None:
        """ε of the same noise where nothing is known of who took part, as with a framework that does not say how it
        samples; None for noise other than independent Gaussians."""
        scheduled = self.sampling.kind == "scheduled"
        if scheduled or self.examples is not None or any(one.kind != "gaussian" for one in self.mechanisms):
            return None
        return gaussian_epsilon(sqrt(rounds) / self.noise_multiplier, self.delta)

    def as_flower(self, rounds: int) -> float | None:
        """The same as the accountant of Flower (1.35 and later) has it for strategies with noise: by Rényi divergences
        of dp-accounting's orders."""
        scheduled = self.sampling.kind == "scheduled"
        if scheduled or self.examples is not None or any(one.kind != "gaussian" for one in self.mechanisms):
            return None
        orders = np.array([*np.arange(11, 110) / 10, *range(11, 64), 128, 256, 512, 1024])
        return renyi.epsilon(orders, renyi.gaussian(sqrt(rounds) / self.noise_multiplier, orders), self.delta)

    def zcdp(self, rounds: int) -> float | None:
        """ρ of zero-concentrated privacy, of Gaussian noise that samples do not amplify (Bun & Steinke 2016); else
        None."""
        gaussian = all(one.kind == "gaussian" or one.correlated for one in self.mechanisms)
        exact = gaussian and self.examples is None and not self.amplified
        return self.distance(rounds) ** 2 / 2 if exact else None

    def distance(self, rounds: int) -> float:
        """How far one client moves the mean of all Gaussian releases together, in standard deviations, where samples do
        not amplify."""
        recurs = self.sampling.recurrence(rounds)
        total = 0.0
        for one in self.mechanisms:
            moved = float(recurs.most)
            if one.correlated:
                moved = _correlated(one, rounds, recurs.separation, recurs.most) ** 2
            total += moved / one.noise_multiplier**2
        return self._moved * sqrt(total)

    @property
    def noise_multiplier(self) -> float:
        """Of the one Gaussian release that those of a round are together."""
        return 1 / sqrt(sum(one.noise_multiplier**-2 for one in self.mechanisms))

    @property
    def needs_dp_accounting(self) -> bool:
        """Whether that library computes epsilon."""
        kinds = {one.kind for one in self.mechanisms}
        return "laplace" in kinds or (self.amplified and not kinds & INTEGERS)

    def last_round(self, budget: float, rounds: int) -> int:
        """The last of this many rounds after which ε is within a budget; 0 for none."""
        return last_round(lambda number: self.epsilon(number) <= budget, rounds)

    def curve(self, rounds: int) -> EpsilonCurve:
        """ε after each of this many rounds."""
        slow = self.amplified and self.accountant == "pld"
        looks = _LOOKS if slow else 16 * _LOOKS
        chosen = np.unique(np.round(np.geomspace(1, rounds, min(looks, rounds) // 2)))
        even = np.round(np.linspace(1, rounds, min(looks, rounds) - min(looks, rounds) // 2 + 1))
        at = np.arange(1, rounds + 1) if rounds <= looks else np.unique([*chosen, *even]).astype(np.int64)
        found = np.maximum.accumulate([self.epsilon(number) for number in at.tolist()])
        return EpsilonCurve(at, found)

    @property
    def amplified(self) -> bool:
        """Whether it counts that random samples hide who took part.

        Not under noise that is correlated over rounds, not for messages that are seen, not under noise that hides next
        to nothing, and beside Gaussian noise only for add-remove neighbours of Poisson samples, for which there are
        bounds.
        """
        if any(one.correlated or one.adds == "each_client" for one in self.mechanisms):
            return False
        if self.noise_multiplier < _LEAST:
            return False
        if all(one.kind == "gaussian" for one in self.mechanisms):
            return self.sampling.amplifies
        return self.sampling.kind == "poisson" and self.adjacency == "add_remove"

    @property
    def _moved(self) -> float:
        """Norms of a contribution by which neighbours move a sum."""
        return 2.0 if self.adjacency == "replace_one" else 1.0

    def _laplace(self, rounds: int) -> float:
        (one,) = self.mechanisms
        rate, count = (self.sampling.rate, rounds) if self.amplified else (1.0, self.sampling.recurrence(rounds).most)
        scale = one.noise_multiplier / self._moved
        return min(sampled_pld_epsilon("laplace", scale, rate, count, self.delta), count / scale)

    def _integers(self, rounds: int) -> Float64:
        """Divergences of all rounds, at the whole orders."""
        once = np.zeros(len(renyi.ORDERS))
        for one in self.mechanisms:
            if one.integers is None:
                once += renyi.gaussian(self._moved / one.noise_multiplier)
            else:
                of = renyi.skellam if one.kind == "skellam" else renyi.discrete_gaussian
                once += of(one.integers, one.noise_multiplier, self._moved)
        if self.amplified:
            return rounds * renyi.poisson_sampled(once, self.sampling.rate)
        return self.sampling.recurrence(rounds).most * once

    def _renyi(self, orders: Float64, divergences: Float64) -> float:
        convert = renyi.legacy_epsilon if self.accountant == "legacy" else renyi.epsilon
        return convert(orders, divergences, self.delta)


def _correlated(one: Mechanism, rounds: int, separation: int, most: int) -> float:
    if one.kind == "tree":
        return tree_sensitivity(rounds, separation, most, one.restart)
    if one.kind == "blt":
        coefficients = blt_coefficients(np.array(one.output_scale), np.array(one.buf_decay), rounds)
    else:
        coefficients = np.array(one.coefficients)
    return sensitivity(coefficients, rounds, separation, most)
