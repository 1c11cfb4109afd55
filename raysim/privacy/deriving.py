"""The account of a run follows from its configuration, never from what a user hopes.

It is made of the mechanisms that the stages say, the sampler that draws the cohorts, and the neighbours for which that
sampler has an epsilon. A chain or sampler without one gets no epsilon but a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raysim.aggregation.mechanism import Mechanism
from raysim.config.privacy import PrivacyConfig
from raysim.errors import ConfigError
from raysim.privacy.accounting import INTEGERS, Accountant, ExampleReleases, PrivacyAccount
from raysim.privacy.sampling import Adjacency, Sampling


def default_delta(population: int) -> float:
    """δ where none is given: population^-1.1, at most 1e-5."""
    return min(1e-5, float(np.power(float(population), -1.1)))


def account_for(mechanisms: Sequence[Mechanism], sampling: Sampling, config: PrivacyConfig) -> PrivacyAccount | str:
    """The account of a run, or why it has none.

    Args:
        mechanisms: of the stages, at least one.
        sampling: of the selection.
        config: what the user wants of it.

    Raises:
        ConfigError: the user wants what this sampler or this noise does not have.
    """
    local = tuple(one for one in mechanisms if one.adds == "each_client")
    kept = local or tuple(mechanisms)
    if config.hypothetical_cohort is not None:
        sampling = _hypothetical(config.hypothetical_cohort, sampling, mechanisms)
    delta = default_delta(sampling.population) if config.delta is None else config.delta
    if delta * sampling.population >= 1:
        raise ConfigError(
            f"privacy.delta: {delta:g} lets one of {sampling.population:,} clients be published; set it below "
            f"{1 / sampling.population:.1g}"
        )
    if sampling.kind == "other":
        return sampling.why
    if any(one.noise_multiplier <= 0 for one in kept):
        return "noise of 0 is no protection"
    kinds = {one.kind for one in kept}
    if "laplace" in kinds and len(kept) > 1:
        return "Laplace noise beside other noise in one round has no accountant here"
    if kinds & INTEGERS and any(one.correlated for one in kept):
        return "noise on integers beside noise that is correlated over rounds has no accountant here"
    adjacency = _adjacency(config, sampling, local=bool(local), amplified=_amplifies(kept, sampling))
    return PrivacyAccount(
        kept, sampling, delta, _accountant(config, kept, sampling, adjacency), adjacency, config.hypothetical_cohort
    )


def account_for_examples(
    noise_multiplier: float, sampling: Sampling, releases: ExampleReleases, config: PrivacyConfig
) -> PrivacyAccount | str:
    """The account of the samples of clients that add noise to their gradients (DP-SGD), or why it has none.

    Args:
        noise_multiplier: of the noise on the sum of a batch's clipped gradients.
        sampling: of the batches of the client with the fewest samples, whose samples are drawn most often.
        releases: of a client.
        config: what the user wants of it.

    Raises:
        ConfigError: the user wants what these batches or this noise do not have.
    """
    if config.hypothetical_cohort is not None:
        raise ConfigError(
            "privacy.hypothetical_cohort: scales noise on sums over clients, not on gradients of samples; remove it"
        )
    found = account_for([Mechanism("gaussian", noise_multiplier)], sampling, config)
    return found if isinstance(found, str) else replace(found, examples=releases)


def _amplifies(mechanisms: Sequence[Mechanism], sampling: Sampling) -> bool:
    return sampling.amplifies and not any(one.correlated or one.adds == "each_client" for one in mechanisms)


def _adjacency(config: PrivacyConfig, sampling: Sampling, *, local: bool, amplified: bool) -> Adjacency:
    offered: tuple[Adjacency, ...] = sampling.adjacencies
    why = "a cohort of a fixed size has no place for one client more"
    if local:
        offered, why = ("replace_one",), "each client's message is seen, and hides its data among any other data"
    if config.adjacency is None:
        return offered[0]
    if config.adjacency not in offered:
        raise ConfigError(f"privacy.adjacency: {why}; set it to {offered[0]}, or selection to poisson")
    renyi = config.accountant in ("rdp", "legacy")
    if config.adjacency == "replace_one" and renyi and amplified and sampling.kind == "poisson":
        raise ConfigError(
            "privacy.adjacency: Rényi divergences of Poisson samples are for add_remove neighbours; set it to that, or "
            "accountant to pld"
        )
    return config.adjacency


def _accountant(
    config: PrivacyConfig, mechanisms: Sequence[Mechanism], sampling: Sampling, adjacency: Adjacency
) -> Accountant:
    kinds = {one.kind for one in mechanisms}
    only_rdp = None
    if kinds & INTEGERS:
        only_rdp = "noise on integers"
    elif sampling.kind == "fixed_size" and kinds == {"gaussian"} and _amplifies(mechanisms, sampling):
        only_rdp = "a sample of a fixed size"
    if only_rdp and config.accountant == "pld":
        raise ConfigError(f"privacy.accountant: {only_rdp} has no privacy loss distribution here; set it to rdp")
    if "laplace" in kinds and config.accountant in ("rdp", "legacy"):
        raise ConfigError("privacy.accountant: Laplace noise is accounted for by pld; remove the key")
    return config.accountant or ("rdp" if only_rdp else "pld")


def _hypothetical(cohort: int, sampling: Sampling, mechanisms: Sequence[Mechanism]) -> Sampling:
    key = "privacy.hypothetical_cohort"
    if any(one.adds != "server" for one in mechanisms):
        raise ConfigError(f"{key}: clients add the noise, for the cohort that they are in; remove it")
    if not sampling.cohort < cohort <= sampling.population:
        raise ConfigError(
            f"{key}: {cohort} is not between the cohort ({sampling.cohort}) and the population "
            f"({sampling.population:,}); it stands for a larger cohort of the same clients"
        )
    return replace(sampling, cohort=cohort, kind="everyone" if cohort == sampling.population else sampling.kind)
