"""What dp-accounting computes: noise that a random sample of the clients amplifies, round by round the same.

Each function composes `rounds` releases of Gaussian or Laplace noise. What a single round costs is kept, so that a look
at another round takes milliseconds; so is each epsilon, which the plan, the facts and the curve of a run all ask for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from raysim.arrays import Float64
from raysim.errors import ConfigError

INTERVAL = 1e-3
"""Width of a bin of privacy losses. Losses are rounded up: ε is never too low, and at most .01 too high at these
numbers of rounds (1e-4 takes five times as long)."""

_KEPT = 64
_EPSILONS = 4096
"""How many epsilons a process remembers."""
_FIXED_SIZE_ORDERS = [*range(2, 49), 56, 64, 96, 128]
"""Orders of samples of fixed size, whose time grows with their squares; larger ones are best only below epsilon .1."""


def require_dp_accounting() -> None:
    """Refuse to go on where dp-accounting is not there.

    Raises:
        ConfigError: says what to install.
    """
    try:
        import dp_accounting  # noqa: F401 - whether it can be imported
    except ImportError:
        raise ConfigError(
            "privacy: the epsilon of sampled cohorts is computed by dp-accounting, which is not installed; "
            "pip install 'raysim-fl[dp]'"
        ) from None


@lru_cache(_EPSILONS)
def sampled_pld_epsilon(
    kind: str, noise_multiplier: float, rate: float, rounds: int, delta: float, *, replace: bool = False
) -> float:
    """ε by privacy loss distributions, of Poisson samples.

    Args:
        kind: `gaussian` or `laplace`.
        noise_multiplier: of a round, over the norm of one client's contribution.
        rate: with which a client is in a round; 1 is no sampling.
        rounds: how many.
        delta: at which.
        replace: neighbours differ in the data of one client, who is in both; only of `gaussian` noise.
    """
    found = _pld(kind, noise_multiplier, rate, replace).self_compose(rounds).get_epsilon_for_delta(delta)
    return float(found)


@lru_cache(_EPSILONS)
def cut_pld_epsilon(
    noise_multiplier: float,
    samples: int,
    batch: int,
    largest: int,
    batches: int,
    delta: float,
    *,
    replace: bool = False,
) -> float:
    """ε by privacy loss distributions, of Poisson batches of which at most `largest` samples are kept, by chance
    (`TruncatedSubsampledGaussianDpEvent` of dp-accounting).

    Args:
        samples: of the client, of which each is in a batch with probability `batch` / `samples`.
        batches: how many.
        replace: neighbours differ in one sample, which is in both.
    """
    found = _cut_pld(noise_multiplier, samples, batch, largest, replace).self_compose(batches)
    return float(found.get_epsilon_for_delta(delta))


@lru_cache(_KEPT)
def _cut_pld(noise_multiplier: float, samples: int, batch: int, largest: int, replace: bool) -> Any:
    require_dp_accounting()
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_truncated_subsampled_gaussian_mechanism(
        samples,
        batch / samples,
        largest,
        noise_multiplier,
        value_discretization_interval=INTERVAL,
        neighboring_relation=NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.ADD_OR_REMOVE_ONE,
    )


def sampled_rdp(noise_multiplier: float, rate: float) -> tuple[Float64, Float64]:
    """Orders and Rényi divergences of one round of Gaussian noise on a Poisson sample, for add-remove neighbours
    (Mironov, Talwar & Zhang 2019)."""
    return _rdp(noise_multiplier, rate, None)


def fixed_size_rdp(noise_multiplier: float, cohort: int, population: int) -> tuple[Float64, Float64]:
    """Orders and Rényi divergences of one round of Gaussian noise on a sample of fixed size without replacement (Wang,
    Balle & Kasiviswanathan 2019, theorem 27), for replace-one neighbours.

    Args:
        noise_multiplier: over the most that replacing one client *moves the sum*: twice the norm of a contribution.
        cohort, population: m of N.
    """
    return _rdp(noise_multiplier, cohort, population)


@lru_cache(_KEPT)
def _pld(kind: str, noise_multiplier: float, rate: float, replace: bool) -> Any:
    require_dp_accounting()
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution as pld

    if kind == "laplace":
        return pld.from_laplace_mechanism(noise_multiplier, value_discretization_interval=INTERVAL, sampling_prob=rate)
    relation = NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.ADD_OR_REMOVE_ONE
    return pld.from_gaussian_mechanism(
        noise_multiplier,
        value_discretization_interval=INTERVAL,
        sampling_prob=rate,
        neighboring_relation=relation,
    )


@lru_cache(_KEPT)
def _rdp(noise_multiplier: float, rate: float, population: int | None) -> tuple[Float64, Float64]:
    require_dp_accounting()
    import dp_accounting
    from dp_accounting import rdp

    release: Any = dp_accounting.GaussianDpEvent(noise_multiplier)
    relations = dp_accounting.NeighboringRelation
    if population is None:
        accountant = rdp.RdpAccountant()
        release = dp_accounting.PoissonSampledDpEvent(rate, release)
    else:
        accountant = rdp.RdpAccountant(orders=_FIXED_SIZE_ORDERS, neighboring_relation=relations.REPLACE_ONE)
        release = dp_accounting.SampledWithoutReplacementDpEvent(population, int(rate), release)
    with _quiet():
        accountant.compose(release)
    return np.asarray(accountant.orders, dtype=np.float64), np.asarray(accountant.rdp, dtype=np.float64)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings that some fractional orders are left out, which only makes ε larger."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)
