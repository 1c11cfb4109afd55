"""Batches that are evaluated again and again, kept as the model takes them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator

import torch
from torch import Tensor

from raysim.training.batches import Batch

RESIDENT_BYTES = 32 * 1024 * 1024
"""What an evaluator keeps at most: 10,000 images of MNIST. A larger set is read and converted anew every time."""


class Resident:
    """Batches by key, within a budget.

    A model, a loss or a metric may write to what it is given. So batches are kept only if they are unchanged after
    their first use, and torch's counts of writes are looked at after every other; then nothing is kept any more.
    A write through `.data`, which torch does not count, is only seen in the first use.
    """

    def __init__(self, budget: int = RESIDENT_BYTES) -> None:
        self._budget = budget
        self._kept: dict[Hashable, tuple[Batch, ...]] = {}

    def of(self, key: Hashable, count: int, make: Callable[[int], Batch]) -> Iterator[Batch]:
        """The batches of a key: those that are kept, or new ones.

        Args:
            key: of samples that are always the same ones; None keeps nothing.
            count: how many batches there are.
            make: the batch of a number, in new memory.
        """
        kept = self._kept.get(key)
        if kept is not None:
            yield from self._watched(kept)
            return
        used: list[Batch] = []
        for number in range(count):
            batch = make(number)
            yield batch
            if key is not None and self._budget >= sum(map(_nbytes, [*used, batch])):
                used.append(batch)
        if key is None or len(used) < count:
            return
        if all(_equal(batch, make(number)) for number, batch in enumerate(used)):
            self._kept[key] = tuple(used)
            self._budget -= sum(map(_nbytes, used))
        else:
            self._give_up()

    def _watched(self, batches: tuple[Batch, ...]) -> Iterator[Batch]:
        for batch in batches:
            before = _writes(batch)
            try:
                yield batch
            finally:
                if _writes(batch) != before:
                    self._give_up()

    def _give_up(self) -> None:
        self._kept, self._budget = {}, -1


def _tensors(batch: Batch) -> list[Tensor]:
    return [one for one in (batch.x, batch.y, batch.weight) if one is not None]


def _nbytes(batch: Batch) -> int:
    return sum(one.nbytes for one in _tensors(batch))


def _writes(batch: Batch) -> list[int]:
    return [one._version for one in _tensors(batch)]


def _equal(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same values; NaN is equal to NaN."""
    return all(
        torch.equal(a.nan_to_num(), b.nan_to_num()) and torch.equal(a.isnan(), b.isnan())
        for a, b in zip(_tensors(one), _tensors(other), strict=True)
    )
