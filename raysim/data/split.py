"""Training, validation and test set of a federation, and each client's own holdout.

Which samples go where is keyed by the seed alone. Where a share of a whole pool is taken, it is rounded to the nearest
count; where a share of each owner or client is taken, the fraction of a sample that is left over is settled by a keyed
coin, so that the shares are right on average however small the owners are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Array, Int64
from raysim.errors import DataError
from raysim.keyed import Purpose, bits, uniform

_SHUFFLE, _TEST, _VALIDATION = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Split:
    """Positions in a pool, ascending; disjoint, and together all of it."""

    train: Int64
    """What is dealt to clients."""
    validation: Int64
    """The server's set for tuning and early stopping; empty where none was asked for."""
    test: Int64
    """The server's test set; empty where none was asked for."""


def split(size: int, seed: int, *, test: float, validation: float, owners: Array | None = None) -> Split:
    """Divide a pool of `size` samples: `test` of it for testing, `validation` of the rest for validation.

    Args:
        size: samples in the pool.
        seed: keys the choice.
        test: share in [0, 1).
        validation: share in [0, 1) of what is not for testing.
        owners: `[size]`; the shares are taken from each owner separately, and every owner keeps a training sample.

    Raises:
        DataError: the pool is empty, or a share above zero gives no sample.
    """
    if size == 0:
        raise DataError("data.source: there are no samples")
    if owners is None:
        owner, coin = np.zeros(size, dtype=np.int64), [np.full(1, 0.5)] * 3
    else:
        owner = np.unique(owners, return_inverse=True)[1].reshape(-1).astype(np.int64)
        coin = [uniform(seed, Purpose.SPLIT, part, np.arange(int(owner.max()) + 1)) for part in range(3)]
    counts = np.bincount(owner)
    for_test = _share(counts, test, coin[_TEST])
    for_validation = _share(counts - for_test, validation, coin[_VALIDATION])
    for key, share, taken in (("test", test, for_test), ("validation", validation, for_validation)):
        if share > 0 and taken.sum() == 0:
            raise DataError(
                f"data.{key}: a share of {share:g} of {size} samples is not one sample; raise it or set it to 0"
            )
    rank = _rank(owner, bits(seed, Purpose.SPLIT, _SHUFFLE, np.arange(size)), counts)
    tested = rank < for_test[owner]
    validated = ~tested & (rank < (for_test + for_validation)[owner])
    return Split(np.flatnonzero(~tested & ~validated), np.flatnonzero(validated), np.flatnonzero(tested))


def holdout_sizes(sizes: Int64, fraction: float, seed: int, clients: Int64 | None = None) -> Int64:
    """How many of a client's samples are held out, int64 `[n]`; with two samples or more, one stays for training.

    Args:
        sizes: `[n]` samples of each client.
        fraction: share in [0, 1).
        seed: keys the rounding.
        clients: `[n]` ids of the clients; by default 0 … n-1.
    """
    ids = np.arange(len(sizes)) if clients is None else clients
    return _share(sizes, fraction, uniform(seed, Purpose.HOLDOUT, ids))


def holdout_last(order: Int64, sizes: Int64, holdout: Int64, seed: int) -> Int64:
    """Reorder a partition so that each client's held-out samples, a keyed choice, come after its training samples.

    Args:
        order: `[samples]` positions in the training pool, client after client.
        sizes: `[clients]` samples of each client.
        holdout: `[clients]` how many of them are held out.
        seed: keys the choice.
    """
    if not holdout.any():
        return order
    client = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = _rank(client, bits(seed, Purpose.HOLDOUT, client, place), sizes) < holdout[client]
    return order[np.lexsort((chosen, client))]


def training_samples(order: Int64, sizes: Int64, holdout: Int64) -> Int64:
    """Positions that clients train on: what `holdout_last` gave, without each client's held-out samples."""
    if not holdout.any():
        return order
    client = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return order[place < (sizes - holdout)[client]]


def _share(sizes: Int64, fraction: float, coin: Array) -> Int64:
    """`fraction` of each size, rounded by the coin in [0, 1), leaving at least one."""
    counts: Int64 = np.minimum(np.floor(sizes * fraction + coin).astype(np.int64), np.maximum(sizes - 1, 0))
    return counts if fraction > 0 else np.zeros_like(counts)


def _rank(group: Int64, score: Array, counts: Int64) -> Int64:
    """Rank of each element within its group, by ascending score; `counts` are the sizes of the groups."""
    order = np.lexsort((score, group))
    rank = np.empty(len(group), dtype=np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
