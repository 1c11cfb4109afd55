"""How training samples are dealt to clients: one file for each family, all with the contract of `base`.

A new partitioner is one function in one file, its section in `raysim.config.partition`, and its line in `PARTITIONERS`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raysim.config.partition import NaturalPartitionConfig, PartitionConfig
from raysim.data.partition.base import Partition, Partitioner, Traits
from raysim.data.partition.classes import classes
from raysim.data.partition.custom import custom
from raysim.data.partition.dirichlet import dirichlet
from raysim.data.partition.iid import iid
from raysim.data.partition.label_shares import label_shares
from raysim.data.partition.natural import natural
from raysim.data.partition.quantity import quantity
from raysim.data.partition.shards import shards
from raysim.data.room import check_room
from raysim.errors import DataError

PARTITIONERS: Mapping[str, Partitioner] = {
    "iid": iid,
    "shards": shards,
    "dirichlet": dirichlet,
    "classes": classes,
    "label_shares": label_shares,
    "quantity": quantity,
    "natural": natural,
}

_CLIENT_BYTES = 100
"""Of what a client takes while samples are dealt: lengths, offsets, an owner."""


def partition(traits: Traits, config: PartitionConfig, seed: int) -> Partition:
    """Deal the training samples to clients as the `data.partition` section says.

    Raises:
        ConfigError: the user's own partitioner cannot be found or called.
        DataError: the samples cannot be dealt that way, or a client would be empty and `allow_empty` is not set.
    """
    allow_empty = getattr(config, "allow_empty", False)
    clients = None if isinstance(config, NaturalPartitionConfig) else getattr(config, "clients", None)
    if clients is not None and clients > traits.size and not allow_empty:
        raise DataError(
            f"data.partition: {clients} clients, but only {traits.size} training samples; lower "
            f"data.partition.clients to at most {traits.size}, or set allow_empty"
        )
    if clients is not None:
        each = max(getattr(config, key, 1) for key in ("shards_per_client", "classes_per_client"))
        check_room(
            clients * (_CLIENT_BYTES + 8 * min(each, traits.size)),
            "data.partition",
            f"a population of {clients:,} clients",
            "lower data.partition.clients, or use the source synthetic_virtual",
        )
    dealt = PARTITIONERS.get(config.name, custom)(traits, config, seed)
    empty = np.flatnonzero(dealt.lengths == 0)
    if len(empty) and not allow_empty:
        remedy = "deal it at least one" if config.name not in PARTITIONERS else "lower clients, or set allow_empty"
        raise DataError(
            f"data.partition: {config.name} leaves client {empty[0]} without samples "
            f"({len(empty)} of {len(dealt.lengths)} clients are empty); {remedy}"
        )
    return dealt


__all__ = ["PARTITIONERS", "Partition", "Partitioner", "Traits", "partition"]
