"""Pathological label skew: a client sees only a few labels (McMahan et al. 2017, section 3)."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Int64
from raysim.config.partition import ShardsPartitionConfig
from raysim.data.partition.base import Partition, Traits, equal_shares, grouped, shuffled
from raysim.errors import DataError


def shards(traits: Traits, config: ShardsPartitionConfig, seed: int) -> Partition:
    """Sort by label (stable), cut into `clients * shards_per_client` equal shards, deal them at random.

    Raises:
        DataError: the samples have no labels, or there are fewer samples than shards.
    """
    labels = traits.require_labels("shards")
    pieces = config.clients * config.shards_per_client
    if pieces > traits.size and not config.allow_empty:
        raise DataError(
            f"data.partition: {config.clients} clients x {config.shards_per_client} shards need {pieces} samples, "
            f"there are {traits.size}; lower clients or shards_per_client, or set allow_empty"
        )
    sizes = equal_shares(traits.size, pieces)
    starts = np.cumsum(sizes) - sizes
    dealt = shuffled(pieces, seed)
    order = grouped(labels)[_ranges(starts[dealt], sizes[dealt])]
    return Partition(order, sizes[dealt].reshape(config.clients, -1).sum(axis=1))


def _ranges(starts: Int64, sizes: Int64) -> Int64:
    """start, start+1, … for each pair, one range after another."""
    before = np.cumsum(sizes) - sizes
    positions: Int64 = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return positions
