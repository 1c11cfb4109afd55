"""A fixed number of labels on every client (NIID-Bench's `#C = k`, Li et al. 2022, section III-B)."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Int64
from raysim.config.partition import ClassesPartitionConfig
from raysim.data.partition.base import Partition, Traits, by_label, collect, shuffled
from raysim.errors import DataError
from raysim.keyed import Purpose, bits

_BLOCK = 1 << 22
"""Scores computed at a time, so that many clients with many classes take little memory."""


def classes(traits: Traits, config: ClassesPartitionConfig, seed: int) -> Partition:
    """Give each client `classes_per_client` different labels, and share a label's samples equally among its holders.

    Labels are dealt round the table first, so that every label has a holder; the rest of a client's labels are random.

    Raises:
        DataError: the samples have no labels or fewer than `classes_per_client` of them, or the clients are too few to
            hold all labels between them, which would lose samples.
    """
    labels = traits.require_labels("classes")
    positions, counts = by_label(labels, seed, 0)
    held, clients, kinds = config.classes_per_client, config.clients, len(counts)
    if held > kinds:
        raise DataError(
            f"data.partition: classes_per_client is {held}, but the training samples have {kinds} labels; "
            f"set it to at most {kinds}"
        )
    if clients * held < kinds:
        raise DataError(
            f"data.partition: {clients} clients of {held} labels each cannot hold all {kinds} labels; "
            f"set classes_per_client to at least {-(-kinds // clients)}, or raise clients"
        )
    client, label = _deal_labels(clients, held, kinds, seed)
    # Holders of a label in random order, so that the odd samples of every label do not go to the same clients.
    ranked = np.lexsort((bits(seed, Purpose.PARTITION, 3, client, label), label))
    client, label = client[ranked], label[ranked]
    holders = np.bincount(label, minlength=kinds)
    rank = np.arange(len(label)) - (np.cumsum(holders) - holders)[label]
    share = counts[label] // holders[label] + (rank < counts[label] % holders[label])
    return collect(positions, np.repeat(client, share), clients)


def _deal_labels(clients: int, held: int, kinds: int, seed: int) -> tuple[Int64, Int64]:
    """Pairs (client, label index), `clients * held` of them, in which every label and every client occurs."""
    dealt = np.arange(max(clients, kinds))
    first_client = dealt % clients
    first_label = shuffled(kinds, seed, 1)[dealt % kinds]
    label = np.empty((clients, held), dtype=np.int64)
    step = max(1, _BLOCK // kinds)
    for start in range(0, clients, step):
        rows = np.arange(start, min(start + step, clients))
        scores = bits(seed, Purpose.PARTITION, 2, rows[:, None], np.arange(kinds))
        own = (first_client >= start) & (first_client < start + step)
        scores[first_client[own] - start, first_label[own]] = 0
        label[rows] = np.argpartition(scores, held - 1, axis=1)[:, :held]
    return np.repeat(np.arange(clients), held), label.reshape(-1)
