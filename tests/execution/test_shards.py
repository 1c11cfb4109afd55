"""The shards that a worker keeps on its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from listed_federation import ListedFederation

from raysim.data import Samples
from raysim.execution.shards import DeviceShards

SIZES = [10, 10, 10, 10, 40]
EACH = 10 * (4 * 4 + 8)
"""Bytes of ten samples: four float32 features and an int64 class."""


class Counted(ListedFederation):
    """Notes which shards are read."""

    def __init__(self) -> None:
        super().__init__(SIZES)
        self.read: list[int] = []

    def shard(self, client: int, part: Any = "train") -> Samples:
        self.read.append(client)
        return super().shard(client, part)


def shards_of(budget: int) -> tuple[DeviceShards, Counted]:
    federation = Counted()
    return DeviceShards(federation, torch.device("cpu"), budget), federation


@pytest.mark.parametrize("budget", [0, EACH, 3 * EACH, 1 << 30])
def test_shards_are_the_federations_in_the_order_asked_for(budget: int) -> None:
    shards, federation = shards_of(budget)
    for clients in ([3, 0, 4], [0], [], [4, 3, 2, 1, 0], [1, 1]):
        found = shards.of(clients)
        assert len(found) == len(clients)
        for client, shard in zip(clients, found, strict=True):
            expected = federation.shard(client)
            np.testing.assert_array_equal(shard.x.numpy(), expected.x)
            np.testing.assert_array_equal(shard.y.numpy(), expected.y)


def test_a_shard_is_read_once_while_it_fits() -> None:
    shards, federation = shards_of(4 * EACH)
    first = shards.of([0, 1, 2, 3])
    again = shards.of([3, 2, 1, 0])
    assert federation.read == [0, 1, 2, 3]
    assert all(one is two for one, two in zip(first, reversed(again), strict=True))


def test_the_least_recently_used_goes_first() -> None:
    shards, federation = shards_of(3 * EACH)
    for client in (0, 1, 2):
        shards.of([client])
    shards.of([0])  # now 1 has waited longest
    shards.of([3])
    federation.read.clear()
    shards.of([0, 2, 3])
    assert federation.read == []
    shards.of([1])
    assert federation.read == [1]


def test_what_is_kept_stays_within_the_budget() -> None:
    shards, federation = shards_of(2 * EACH + EACH // 2)
    generator = np.random.default_rng(0)
    for _ in range(50):
        shards.of(generator.integers(0, 4, 3).tolist())
        federation.read.clear()
        for client in range(4):
            shards.of([client])
        assert len(federation.read) >= 2
        assert shards._bytes == sum(shard.nbytes for shard in shards._held.values()) <= 2 * EACH + EACH // 2


def test_a_block_larger_than_the_budget_is_given_whole_and_only_what_fits_stays() -> None:
    shards, federation = shards_of(EACH)
    found = shards.of([0, 1, 2, 4])
    assert [len(shard) for shard in found] == [10, 10, 10, 40]
    assert shards._bytes <= EACH
    federation.read.clear()
    shards.of([4])
    assert federation.read == [4], "a shard larger than the budget is not kept"


def test_without_a_budget_nothing_is_kept() -> None:
    shards, federation = shards_of(0)
    shards.of([0])
    shards.of([0])
    assert federation.read == [0, 0]
