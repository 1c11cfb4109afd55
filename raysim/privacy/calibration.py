"""How much noise an epsilon takes."""

from __future__ import annotations

from dataclasses import replace

from raysim.errors import ConfigError
from raysim.privacy.accounting import PrivacyAccount
from raysim.privacy.searching import smallest

_PRECISION = 1e-4
"""How far above the least noise the result may be, relative to it."""


def calibrated(account: PrivacyAccount, epsilon: float, rounds: int) -> PrivacyAccount:
    """The account with the least noise, by one factor on all its noise multipliers, that stays within an epsilon.

    Args:
        account: whose sampler, neighbours and delta stay.
        epsilon: the most that all rounds may spend.
        rounds: of the run.

    Raises:
        ConfigError: no noise is enough.
    """
    try:
        factor = smallest(lambda one: scaled(account, one).epsilon(rounds) <= epsilon, 0.0, 1.0, _PRECISION)
    except ValueError:
        raise ConfigError(f"epsilon {epsilon:g} at delta {account.delta:g} is more than noise can reach here") from None
    return scaled(account, factor)


def scaled(account: PrivacyAccount, factor: float) -> PrivacyAccount:
    """The account with other noise multipliers."""
    mechanisms = (replace(one, noise_multiplier=factor * one.noise_multiplier) for one in account.mechanisms)
    return replace(account, mechanisms=tuple(mechanisms))
