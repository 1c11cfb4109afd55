"""Owners of test samples: those that a source names for its own test set, matched to the clients.

Owners are compared by name, however they are written: 7, 7.0 and "7" are the same. None, NaN, an empty string and -1
say that a sample belongs to no client, unless a training sample has an owner of that name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from raysim.arrays import Array, Int64
from raysim.data.dataset import Pool
from raysim.data.partition import Partition
from raysim.data.partition.base import collect
from raysim.errors import DataError

_NO_OWNER = ("", "-1")
_NAMED = 5
"""Owners that an error names."""


def owner_name(owner: Any) -> str | None:
    """The name by which owners are compared; None where there is no owner.

    Example:
        >>> owner_name(7.0), owner_name("7"), owner_name(float("nan"))
        ('7', '7', None)
    """
    if owner is None or type(owner).__name__ in ("NAType", "NaTType"):  # the holes of pandas, told without importing it
        return None
    if isinstance(owner, float):
        return None if math.isnan(owner) else str(int(owner)) if owner.is_integer() else str(owner)
    return str(int(owner)) if isinstance(owner, bool) else str(owner)


def owned_tests(source: Pool, test: Pool, dealt: Partition) -> Partition | None:
    """Deal the test samples to the clients that own them.

    Samples without an owner, and those of an owner that the partition left out, stay with the server alone. Where the
    partition makes up its clients, their names are 0, 1, …; if the source has owners of training samples all the same,
    it is them that test samples belong to, and none is a client's.

    Args:
        source: all training samples of the source, with their owners.
        test: the test set after the transforms.
        dealt: who trains on what.

    Returns:
        Positions in the test set, client after client, in the order of the set; None where no client owns any.

    Raises:
        DataError: an owner is neither a client nor an owner of training samples; names it.
    """
    if test.client is None or (dealt.owners is None and source.client is not None):
        return None
    clients: Sequence[Any] = range(len(dealt.lengths)) if dealt.owners is None else dealt.owners.tolist()
    place = {owner_name(owner): client for client, owner in enumerate(clients)}
    known = set(place) if source.client is None else {owner_name(one) for one in np.unique(source.client).tolist()}
    owners, inverse = _distinct(test.client)
    names = [owner_name(owner) for owner in owners]
    unknown = [i for i, name in enumerate(names) if name not in known and name is not None and name not in _NO_OWNER]
    if unknown:
        _refuse(test, [str(names[i]) for i in unknown], np.isin(inverse, unknown), len(clients), source.client is None)
    client = np.array([place.get(name, -1) for name in names], dtype=np.int64)[inverse]
    rows = np.flatnonzero(client >= 0)
    return collect(rows, client[rows], len(clients)) if len(rows) else None


def _distinct(owners: Array) -> tuple[list[Any], Int64]:
    """The owners that occur, and which of them each sample has; object arrays may hold what does not sort."""
    if owners.dtype != object:
        found, inverse = np.unique(owners, return_inverse=True)
        return found.tolist(), inverse.reshape(-1)
    position: dict[Any, int] = {}
    inverse = np.array([position.setdefault(owner, len(position)) for owner in owners.tolist()], dtype=np.int64)
    return list(position), inverse


def _refuse(test: Pool, names: Sequence[str], of_them: Array, clients: int, by_id: bool) -> None:
    which = ", ".join(map(repr, names[:_NAMED])) + (", …" if len(names) > _NAMED else "")
    first = int(np.flatnonzero(of_them)[0])
    sample = first if test.row is None else int(test.row[first])
    why = f"clients are 0 to {clients - 1}" if by_id else "no training sample has such an owner"
    raise DataError(
        f"{test.origin}: {int(of_them.sum())} of {len(test)} test samples (the first is sample {sample}) belong to "
        f"{which}, but {why}; correct the names, or leave these samples without an owner (None, NaN, '' or -1)"
    )
