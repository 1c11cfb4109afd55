"""Clients as they are in the data: a writer, a speaking role, a hospital."""

from __future__ import annotations

import numpy as np

from raysim.config.partition import NaturalPartitionConfig
from raysim.data.partition.base import Partition, Traits, grouped
from raysim.errors import DataError
from raysim.keyed import Purpose, bits


def natural(traits: Traits, config: NaturalPartitionConfig, seed: int) -> Partition:
    """Make every owner a client, in the owners' sort order; a client's samples stay in the order of the source.

    Samples of owners with fewer than `min_size` samples, and of owners beyond the `clients` kept, are left out.

    Raises:
        DataError: the source has no owners, or too few of them have `min_size` samples.
    """
    if traits.owners is None:
        raise DataError(
            "data.partition: natural needs an owner for each sample, the source has none; name the column "
            "(csv, parquet: data.source.client; npz: an array `client`), or use another partition"
        )
    owners, owner, counts = np.unique(traits.owners, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(counts >= config.min_size)
    wanted = config.clients if config.clients is not None else max(1, len(kept))
    if wanted > len(kept):
        raise DataError(
            f"data.partition: {wanted} clients wanted, but {len(kept)} of {len(owners)} owners have min_size "
            f"{config.min_size} training samples; lower clients or min_size"
        )
    kept = np.sort(kept[np.argsort(bits(seed, Purpose.PARTITION, kept), kind="stable")[:wanted]])
    chosen = np.zeros(len(owners), dtype=bool)
    chosen[kept] = True
    return Partition(grouped(owner.reshape(-1))[np.repeat(chosen, counts)], counts[kept].astype(np.int64), owners[kept])
