"""`client.privacy`: differential privacy of single samples inside a client, by noisy gradients (DP-SGD)."""

from __future__ import annotations

import math
from functools import lru_cache

from pydantic import Field

from raysim.config.base import Section

_BEYOND = 2.0**-40
"""Chance that a Poisson batch has more samples than the largest one."""
_KEPT = 1024
"""Chances and bounds that a process remembers."""


class ExamplePrivacyConfig(Section):
    """DP-SGD on each client: clip each sample's gradient, add up a Poisson batch, add noise (Abadi et al. 2016).

    A sample of n is in a batch with probability `client.batch_size` / n; the sum is divided by `batch_size`."""

    clip: float = Field(gt=0)
    """Euclidean norm to which each sample's gradient is clipped."""
    noise_multiplier: float = Field(ge=0)
    """Standard deviation of the noise on the sum of clipped gradients, in units of `clip`; 0 is no privacy."""
    largest_batch: int | None = Field(None, ge=1)
    """Samples that a batch is filled up to in the `rows` engine, and never exceeds: of more, the rest is left out,
    which delta pays for. By default, more have a chance below 2⁻⁴⁰ a batch."""

    def most(self, batch_size: int) -> int:
        """The largest batch, where this many samples are expected."""
        return batch_bound(batch_size) if self.largest_batch is None else self.largest_batch


@lru_cache(_KEPT)  # each round asks for it
def batch_bound(expected: int) -> int:
    """The number of samples that a Poisson batch exceeds with a chance below 2⁻⁴⁰, whatever the client's size.

    Above its mean, a binomial has less beyond than the Poisson distribution of the same mean (Anderson & Samuels 1967).
    """
    most = expected + 1
    while poisson_tail(expected, most) > _BEYOND:
        most += 1
    return most


@lru_cache(_KEPT)
def poisson_tail(mean: float, most: int) -> float:
    """The chance that a Poisson variable exceeds `most`, which is at least its mean."""
    terms = range(most + 1, most + 1000)
    return math.fsum(math.exp(j * math.log(mean) - mean - math.lgamma(j + 1)) for j in terms)
