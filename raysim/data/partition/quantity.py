"""Quantity skew: the same distribution everywhere, very different sizes."""

from __future__ import annotations

import numpy as np

from raysim.config.partition import QuantityPartitionConfig
from raysim.data.partition.base import Partition, Traits, apportion, shuffled
from raysim.errors import DataError
from raysim.keyed import Purpose, generator


def quantity(traits: Traits, config: QuantityPartitionConfig, seed: int) -> Partition:
    """Give each client `min_size` samples, share the others by a power law or a log-normal law, at random.

    Raises:
        DataError: there are fewer than `clients * min_size` samples.
    """
    smallest = config.min_size if config.allow_empty else max(1, config.min_size)
    spare = traits.size - config.clients * smallest
    if spare < 0:
        raise DataError(
            f"data.partition: {config.clients} clients of at least {smallest} samples need "
            f"{config.clients * smallest}, there are {traits.size}; lower clients or min_size"
        )
    if config.distribution == "power_law":
        rank = 1.0 + shuffled(config.clients, seed, 1)
        logarithm = -config.exponent * np.log(rank)
    else:
        logarithm = config.sigma * generator(seed, Purpose.PARTITION, 2).standard_normal(config.clients)
    shares = np.exp(logarithm - logarithm.max())  # the largest is 1: no overflow, whatever the sigma
    return Partition(shuffled(traits.size, seed, 0), smallest + apportion(spare, shares))
