"""Label skew as it is asked for: what share of each client's samples is of which class."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Float64, Int64
from raysim.config.partition import LabelSharesPartitionConfig
from raysim.data.partition.base import Partition, Traits, by_label, collect
from raysim.errors import DataError


def label_shares(traits: Traits, config: LabelSharesPartitionConfig, seed: int) -> Partition:
    """Give every client the same number of samples, of each class its share, apportioned by largest remainders.

    That number is `size`, or the largest that the classes have samples for; the samples that are left are left out.

    Raises:
        DataError: the samples have no labels, or other classes than there are shares for; a class has too few samples.
    """
    labels = traits.require_labels("label_shares")
    positions, counts = by_label(labels, seed, 0)
    shares = _shares(config, len(counts))
    size = config.size or int((counts / np.maximum(shares.sum(axis=0), 1e-300)).min())
    dealt = _dealt(shares, size)
    while config.size is None and size and (dealt.sum(axis=0) > counts).any():
        size -= 1
        dealt = _dealt(shares, size)
    short = np.flatnonzero(dealt.sum(axis=0) > counts)
    if len(short) or not size:
        label = int(short[0]) if len(short) else int(np.argmin(counts / np.maximum(shares.sum(axis=0), 1e-300)))
        wanted = f"{int(dealt[:, label].sum())}" if size else "more"
        raise DataError(
            f"data.partition: label_shares needs {wanted} training samples of class {label}, there are "
            f"{counts[label]}; lower size, its shares, or the number of clients"
        )
    starts = np.cumsum(counts) - counts
    taken = [positions[start : start + int(own.sum())] for start, own in zip(starts, dealt.T, strict=True)]
    client = np.concatenate([np.repeat(np.arange(len(dealt)), own) for own in dealt.T])
    return collect(np.concatenate(taken), client, len(dealt))


def _shares(config: LabelSharesPartitionConfig, classes: int) -> Float64:
    """`[clients, classes]`, each row with the sum 1."""
    rows = [(1 - one, one) if isinstance(one, float) else one for one in config.shares]
    if len(rows[0]) != classes:
        raise DataError(
            f"data.partition: label_shares has shares of {len(rows[0])} classes, the training samples have {classes}; "
            "give a list with a share of each class for each client"
        )
    shares: Float64 = np.array(rows, dtype=np.float64)
    shares /= shares.sum(axis=1, keepdims=True)
    return shares


def _dealt(shares: Float64, size: int) -> Int64:
    """Samples of each client and class `[clients, classes]`, by largest remainders; ties go round the classes."""
    exact = shares * size
    counts: Int64 = np.floor(exact).astype(np.int64)
    clients, classes = shares.shape
    turn = (np.arange(classes) - np.arange(clients)[:, None]) % classes
    order = np.lexsort((turn, counts - exact))
    more = np.arange(classes) < (size - counts.sum(axis=1))[:, None]
    np.put_along_axis(counts, order, np.take_along_axis(counts, order, 1) + more, 1)
    return counts
