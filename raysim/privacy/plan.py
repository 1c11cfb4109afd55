"""What is known of a run's privacy before its first round: what it may spend, when it ends, and what is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from raysim.aggregation.mechanism import Mechanism
from raysim.privacy.accounting import Accountant, PrivacyAccount
from raysim.privacy.sampling import Adjacency, Sampling

_NOISE: Mapping[str, str] = {
    "gaussian": "Gaussian noise", "laplace": "Laplace noise", "discrete_gaussian": "discrete Gaussian noise",
    "skellam": "Skellam noise", "tree": "Gaussian noise in binary trees (DP-FTRL)",
    "banded": "Gaussian noise correlated by a banded matrix", "blt": "Gaussian noise correlated by a buffered matrix",
}  # fmt: skip
_ADDS: Mapping[str, str] = {
    "server": "added by the server, which sees the sum without it",
    "clients": "added in shares by the clients, whose sum alone is seen",
    "each_client": "added by each client to its own message",
}
_ACCOUNTANTS: Mapping[str, str] = {
    "pld": "privacy loss distributions",
    "rdp": "Rényi divergences",
    "legacy": "Rényi divergences, converted as until 2020",
}


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """The privacy of a run whose stages add noise.

    Attributes:
        account: None where there is none.
        why: there is no account.
        rounds: of the configuration.
        last: the last round that the budget allows.
        budget: the largest epsilon.
        keyed: whether noise follows from the seed.
    """

    account: PrivacyAccount | None
    why: str
    rounds: int
    last: int
    budget: float | None
    keyed: bool

    @property
    def metric(self) -> str | None:
        """The column of rounds.parquet that has epsilon; None where there is none."""
        if self.account is None:
            return None
        if self.account.examples is not None:
            return "privacy/example_epsilon"
        return "privacy/epsilon" if self.account.hypothetical is None else "privacy/hypothetical_epsilon"

    @property
    def ending(self) -> str:
        """Why the run ends with the last round that the budget allows."""
        return f"the privacy budget (epsilon {self.budget:g}) allows no further round"

    @property
    def sentence(self) -> str:
        """What a run promises, in one line."""
        if self.account is None:
            return f"no epsilon: {self.why}"
        one = self.account
        hypothetical = "" if one.hypothetical is None else f"hypothetical, as for cohorts of {one.hypothetical:,}: "
        text = f"{hypothetical}({one.epsilon(self.last):.4g}, {one.delta:.2g}) after round {self.last}"
        text += f", {adjacency_text(one)}"
        if self.last < self.rounds:
            text += f"; round {self.last} of {self.rounds} is the last within the budget of {self.budget:g}"
        return text

    @property
    def caution(self) -> str | None:
        """What is to be warned of: there is no epsilon, or it is hypothetical."""
        return self.sentence if self.account is None or self.account.hypothetical is not None else None

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What must hold for the epsilon to be true of a deployment."""
        found = []
        if self.keyed:
            found.append(
                "Noise follows from the seed, so that runs can be repeated: anyone with the seed can remove it. "
                "Epsilon is that of the same mechanism with a secret seed."
            )
        if self.account is not None:
            if self.account.examples is not None:
                found.append(
                    "It is single samples that are protected, each of one client alone. How many a client has is "
                    "public, and which of them were in a batch stays secret."
                )
            elif self.account.amplified:
                found.append("Which clients took part in which round stays secret.")
            if self.account.hypothetical is not None:
                found.append(
                    f"Hypothetical: noise is scaled as for cohorts of {self.account.hypothetical:,} clients, which the "
                    "run did not have. This run itself is less private."
                )
        found.append(
            "The model, and nothing else, is published: what the simulator records of clients (clients.parquet, "
            "losses, metrics on their data) is outside of the guarantee."
        )
        return tuple(found)

    def facts(self) -> PrivacyFacts | WithoutEpsilon:
        """All of it for programs: `raysim plan --json`, environment.json."""
        if self.account is None:
            return WithoutEpsilon(None, self.why, self.assumptions)
        return privacy_facts(self.account, self.last, self.budget, self.assumptions)


@dataclass(frozen=True, slots=True)
class SampledCohorts(Sampling):
    """How cohorts are drawn, as the accountant sees it."""

    text: str = ""
    """The same in a sentence."""


@dataclass(frozen=True, slots=True)
class PrivacyFacts:
    """What a run promises, or what noise is worth.

    Attributes:
        epsilon: that all rounds spend, at `delta`.
        delta: of epsilon.
        rounds: that epsilon is for: those of the run, or the last that the budget allows.
        budget: the largest epsilon; null where there is none.
        hypothetical_cohort: clients of the larger cohorts that epsilon is stated for; null where it is for those drawn.
        adjacency: which federations an epsilon tells apart.
        neighbours: the same in a sentence.
        accountant: what composes the rounds.
        protects: whether single samples are protected, or clients with all that they have.
        noise: each mechanism in a sentence.
        noise_multipliers: of each mechanism.
        sampling: how cohorts are drawn; of protected samples, how batches are.
        amplified: whether it counts that random samples hide who took part.
        without_amplification: epsilon if it did not; null for noise other than independent Gaussians.
        flower: epsilon as the accountant of Flower has it; null likewise.
        zcdp: rho of zero-concentrated privacy; null where samples amplify, or noise is not Gaussian.
        assumptions: what must hold for epsilon to be true of a deployment.
    """

    epsilon: float
    delta: float
    rounds: int
    budget: float | None
    hypothetical_cohort: int | None
    adjacency: Adjacency
    neighbours: str
    accountant: Accountant
    protects: Literal["clients", "samples"]
    noise: tuple[str, ...]
    noise_multipliers: tuple[float, ...]
    sampling: SampledCohorts
    amplified: bool
    without_amplification: float | None
    flower: float | None
    zcdp: float | None
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WithoutEpsilon:
    """Noise that no epsilon can be stated for.

    Attributes:
        epsilon: null.
        why: there is none.
        assumptions: that hold all the same.
    """

    epsilon: None
    why: str
    assumptions: tuple[str, ...]


def privacy_facts(
    one: PrivacyAccount, rounds: int, budget: float | None = None, assumptions: tuple[str, ...] = ()
) -> PrivacyFacts:
    """What an account says of this many rounds."""
    return PrivacyFacts(
        epsilon=one.epsilon(rounds),
        delta=one.delta,
        rounds=rounds,
        budget=budget,
        hypothetical_cohort=one.hypothetical,
        adjacency=one.adjacency,
        neighbours=adjacency_text(one),
        accountant=one.accountant,
        protects="clients" if one.examples is None else "samples",
        noise=tuple(noise_texts(one)),
        noise_multipliers=tuple(mechanism.noise_multiplier for mechanism in one.mechanisms),
        sampling=_sampled(one),
        amplified=one.amplified,
        without_amplification=one.without_amplification(rounds),
        flower=one.as_flower(rounds),
        zcdp=one.zcdp(rounds),
        assumptions=assumptions,
    )


def _sampled(one: PrivacyAccount) -> SampledCohorts:
    known = {field.name: getattr(one.sampling, field.name) for field in fields(Sampling)}
    return SampledCohorts(**known, text=cohorts_text(one))


def noise_texts(one: PrivacyAccount) -> list[str]:
    """The noise of an account in words."""
    if one.examples is None:
        return [mechanism_text(mechanism) for mechanism in one.mechanisms]
    noise = f"{_NOISE[one.mechanisms[0].kind]}, multiplier {one.noise_multiplier:.4g}"
    return [f"{noise}, added by each client to the sum of a batch's clipped gradients"]


def cohorts_text(one: PrivacyAccount) -> str:
    """The sampler of an account in words."""
    if one.examples is None:
        return sampling_text(one.sampling)
    text = f"{one.examples.steps:,} batches a round, each with every sample by itself with probability "
    return f"{text}{one.sampling.rate:.4g} where a client has {one.sampling.population:,}, the fewest"


def mechanism_text(one: Mechanism) -> str:
    """A mechanism in words."""
    return f"{_NOISE[one.kind]}, multiplier {one.noise_multiplier:.4g}, {_ADDS[one.adds]}"


def sampling_text(one: Sampling) -> str:
    """A sampler in words."""
    clients = f"{one.population:,} clients"
    if one.kind == "poisson":
        return f"each of {clients} by itself with probability {one.rate:.4g}"
    if one.kind == "fixed_size":
        return f"{one.cohort:,} of {clients}, every subset equally likely"
    if one.kind == "round_robin":
        apart = one.recurrence(1).separation
        return f"{one.cohort:,} of {clients} in a fixed order: a client at most every {apart:,} rounds"
    if one.kind == "scheduled":
        return f"{one.cohort:,} updates a step of {clients}, by a schedule that is known"
    return f"all {clients}" if one.kind == "everyone" else one.why


def adjacency_text(one: PrivacyAccount) -> str:
    """The neighbours in words."""
    if one.examples is not None:
        return "one sample replaced" if one.adjacency == "replace_one" else "with or without one sample"
    if one.adjacency == "replace_one":
        return "one client's data replaced"
    return "with or without one client" if one.amplified else "one client's contribution there or zero"


def unamplified_text(one: PrivacyAccount, rounds: int) -> str | None:
    """What epsilon would be if samples did not amplify; None where they do not, or where that is not known."""
    plain, flower = one.without_amplification(rounds), one.as_flower(rounds)
    if not one.amplified or plain is None or flower is None:
        return None
    return f"epsilon {plain:.4g} if samples did not amplify ({flower:.4g} by Flower's accountant)"


def accountant_text(one: PrivacyAccount) -> str:
    """The accountant in words."""
    exact = one.accountant == "pld" and one.zcdp(1) is not None
    return "exact for Gaussian noise" if exact else _ACCOUNTANTS[one.accountant]
