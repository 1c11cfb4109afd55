"""Identically distributed clients."""

from __future__ import annotations

from raysim.config.partition import IidPartitionConfig
from raysim.data.partition.base import Partition, Traits, equal_shares, shuffled


def iid(traits: Traits, config: IidPartitionConfig, seed: int) -> Partition:
    """Shuffle all samples, then deal shares that differ by at most one sample."""
    return Partition(shuffled(traits.size, seed), equal_shares(traits.size, config.clients))
