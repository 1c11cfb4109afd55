"""Label skew of any strength (Hsu, Qi & Brown 2019; NIID-Bench, Li et al. 2022, section III-B)."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Int64
from raysim.config.partition import DirichletPartitionConfig
from raysim.data.partition.base import Partition, Traits, by_label, collect
from raysim.errors import DataError
from raysim.keyed import Purpose, generator

TRIES = 100
"""Draws before giving up on `min_size`."""


def dirichlet(traits: Traits, config: DirichletPartitionConfig, seed: int) -> Partition:
    """Spread the samples of each class over the clients in proportions drawn from Dirichlet(alpha, …, alpha).

    The whole draw is repeated until every client has `min_size` samples, as in NIID-Bench; its reference code also
    stops giving to clients that already hold their equal share, which the papers do not mention and raysim does not do.

    Raises:
        DataError: the samples have no labels, are fewer than `clients * min_size`, or no draw was even enough.
    """
    labels = traits.require_labels("dirichlet")
    smallest = config.min_size if config.allow_empty else max(1, config.min_size)
    if config.clients * smallest > traits.size:
        raise DataError(
            f"data.partition: {config.clients} clients of at least {smallest} samples need "
            f"{config.clients * smallest}, there are {traits.size}; lower clients or min_size"
        )
    positions, counts = by_label(labels, seed, 0)
    best = -1
    for attempt in range(TRIES):
        draws = generator(seed, Purpose.PARTITION, 1, attempt)
        shares = [_spread(int(count), config, draws) for count in counts]
        smallest_drawn = int(np.sum(shares, axis=0).min()) if shares else 0
        if smallest_drawn >= smallest:
            clients = np.arange(config.clients)
            owner = np.concatenate([np.repeat(clients, share) for share in shares])
            return collect(positions, owner, config.clients)
        best = max(best, smallest_drawn)
    raise DataError(
        f"data.partition: in {TRIES} Dirichlet draws with alpha {config.alpha:g} the smallest of {config.clients} "
        f"clients never had min_size {smallest} samples (at best {best}); raise alpha, or lower min_size or clients"
    )


def _spread(count: int, config: DirichletPartitionConfig, draws: np.random.Generator) -> Int64:
    """How many of a class's `count` samples each client gets: cuts at the cumulative proportions, rounded down."""
    proportions = draws.dirichlet(np.full(config.clients, config.alpha))
    cuts = np.floor(np.cumsum(proportions) * count).astype(np.int64)
    cuts[-1] = count
    return np.diff(np.minimum(cuts, count), prepend=0)
