"""The shards that a worker keeps on its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from listed_federation import ListedFederation

from raysim.data import Samples
from raysim.execution.clients.shards import DeviceShards

SIZES = [10, 10, 10, 10, 40, 0]
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


def check(shards: DeviceShards, clients: list[int]) -> None:
    """What is given are the federation's samples of these clients."""
    found = shards.of(np.array(clients, dtype=np.int64))
    assert found.count.tolist() == [SIZES[client] for client in clients]
    for client, start, count in zip(clients, found.start.tolist(), found.count.tolist(), strict=True):
        expected = ListedFederation(SIZES).shard(client)
        np.testing.assert_array_equal(found.pool.x[start : start + count].numpy(), expected.x)
        np.testing.assert_array_equal(found.pool.y[start : start + count].numpy(), expected.y)


@pytest.mark.parametrize("budget", [0, EACH, 3 * EACH, 1 << 30])
def test_shards_are_the_federations_in_the_order_asked_for(budget: int) -> None:
    shards, _ = shards_of(budget)
    for clients in ([3, 0, 4], [0], [5, 3], [5], [4, 3, 2, 1, 0], [1, 1], [0, 1, 2, 3, 4, 5]):
        check(shards, clients)


@settings(max_examples=60)
@given(
    st.sampled_from([0, EACH, 2 * EACH + 7, 5 * EACH, 1 << 30]),
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=1, max_size=12),
)
def test_blocks_of_any_make_up_find_their_samples_whatever_was_there_before(
    budget: int, blocks: list[list[int]]
) -> None:
    shards, _ = shards_of(budget)
    for block in blocks:
        check(shards, block)


def test_a_shard_is_read_once_while_it_fits() -> None:
    shards, federation = shards_of(4 * EACH)
    for clients in ([0, 1, 2, 3], [3, 2, 1, 0], [2]):
        check(shards, clients)
    assert federation.read == [0, 1, 2, 3]


def test_what_came_first_goes_first() -> None:
    shards, federation = shards_of(3 * EACH)
    for client in (0, 1, 2, 3):  # 3 takes the place of 0
        check(shards, [client])
    federation.read.clear()
    check(shards, [1])
    check(shards, [2, 3])
    assert federation.read == []
    check(shards, [0])
    assert federation.read == [0]
    check(shards, [3, 2])
    assert federation.read == [0], "0 took the place of 1, which had waited longest"


def test_what_is_kept_stays_within_the_budget() -> None:
    shards, _ = shards_of(2 * EACH + EACH // 2)
    for client in (0, 1, 2, 3, 0, 1, 2, 3):
        found = shards.of(np.array([client]))
        assert found.pool.nbytes <= 2 * EACH + EACH // 2


def test_a_budget_for_more_than_there_is_takes_no_more_memory_than_there_are_samples() -> None:
    shards, federation = shards_of(1 << 40)
    found = shards.of(np.array([0]))
    assert len(found.pool) == federation.sizes().sum()


def test_a_block_larger_than_the_budget_is_given_whole() -> None:
    for budget in (0, EACH):
        shards, _ = shards_of(budget)
        check(shards, [0, 1])
        check(shards, [0, 1, 2, 4])
        check(shards, [4])
        check(shards, [3, 1])


def test_a_block_of_clients_without_samples_has_none() -> None:
    shards, _ = shards_of(EACH)
    check(shards, [5])
    check(shards, [5, 5])


def test_what_was_fetched_ahead_is_not_read_again_and_stays_within_the_budget() -> None:
    shards, federation = shards_of(3 * EACH)
    check(shards, [0])
    shards.prefetch(np.array([0, 1, 2, 3, 5]))
    assert federation.read == [0, 1, 2], "who is there is not fetched, nor whoever finds no room"
    federation.read.clear()
    check(shards, [1, 2])
    assert federation.read == []
    assert shards._pool is not None
    assert len(shards._pool) == 30
