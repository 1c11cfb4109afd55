"""Keyed randomness: pinned values, independence, and no global generator."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysim import keyed
from raysim.keyed import Purpose

WORD = 2**64
WORDS = st.integers(0, WORD - 1)


def splitmix64(x: int) -> int:
    """Steele, Lea & Flood's generator with state x, one step, in plain integers."""
    x = (x + 0x9E3779B97F4A7C15) % WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def test_the_hash_is_the_one_that_every_recorded_result_was_made_with() -> None:
    assert [int(word) for word in keyed.bits(0, Purpose.COHORT, 1, np.arange(3))] == [
        0x45676688DFF741B0,
        0x8F5132558DC98822,
        0x9901A6F9E209B3AE,
    ]
    assert int(keyed.bits(WORD - 1, Purpose.BATCHES, 7, 123456789, 2, 0)) == 0x42426DCCA7055867
    assert keyed.integer(42, Purpose.MODULE, 3, 17) == 1708489268284211424
    assert keyed.uniform(42, Purpose.SPLIT, np.arange(2)).tolist() == [0.577125795355946, 0.3397220955490139]
    generator = keyed.generator(7, Purpose.PARTITION, 1)
    assert generator.integers(0, 2**32, 3).tolist() == [3835825036, 3905960634, 1673634745]


def test_purposes_keep_their_numbers() -> None:
    first = {"SPLIT": 1, "PARTITION": 2, "HOLDOUT": 3, "SYNTHETIC": 4, "MODEL": 5, "COHORT": 6, "BATCHES": 7}
    assert {name: Purpose[name].value for name in first} == first
    assert Purpose.MODULE == 8


@given(WORDS, st.sampled_from(Purpose), st.lists(WORDS, max_size=4))
def test_bits_are_a_chain_of_splitmix64_over_the_key(seed: int, purpose: Purpose, key: list[int]) -> None:
    expected = splitmix64(seed)
    for part in (int(purpose), *key):
        expected = splitmix64(expected ^ part)
    assert int(keyed.bits(seed, purpose, *(np.uint64(part) for part in key))) == expected


def test_parts_of_a_key_broadcast_against_each_other() -> None:
    rounds, clients = np.arange(3)[:, None], np.array([5, 9])
    table = keyed.bits(1, Purpose.BATCHES, rounds, clients, 2)
    assert table.shape == (3, 2)
    assert table.dtype == np.uint64
    for i in range(3):
        for j, client in enumerate(clients):
            assert table[i, j] == keyed.bits(1, Purpose.BATCHES, i, int(client), 2)


def test_integer_types_of_a_key_do_not_matter() -> None:
    values = [keyed.bits(1, Purpose.COHORT, kind(9)) for kind in (int, np.int32, np.int64, np.uint8, np.uint64)]
    assert len({int(value) for value in values}) == 1


def test_uniform_numbers_are_uniform() -> None:
    values = keyed.uniform(3, Purpose.SYNTHETIC, np.arange(100_000))
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.bincount((values * 100).astype(int), minlength=100)
    assert ((counts - 1000) ** 2 / 1000).sum() < 160  # 99 degrees of freedom: 1 in 10,000
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


def test_every_bit_is_set_half_of_the_time() -> None:
    words = keyed.bits(0, Purpose.COHORT, np.arange(20_000))
    for bit in range(64):
        share = float((words >> np.uint64(bit) & np.uint64(1)).mean())
        assert share == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("other", [(0, Purpose.BATCHES, 1), (0, Purpose.COHORT, 2), (1, Purpose.COHORT, 1)])
def test_another_seed_purpose_or_round_is_independent(other: tuple[int, Purpose, int]) -> None:
    clients = np.arange(20_000)
    one = keyed.uniform(0, Purpose.COHORT, 1, clients)
    two = keyed.uniform(*other, clients)
    assert not np.any(one == two)
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03


def test_the_order_of_a_keys_parts_matters() -> None:
    assert keyed.bits(0, Purpose.BATCHES, 1, 2) != keyed.bits(0, Purpose.BATCHES, 2, 1)
    assert keyed.bits(0, Purpose.BATCHES, 1) != keyed.bits(0, Purpose.BATCHES, 1, 0)


def test_different_clients_never_share_their_bits() -> None:
    assert len(np.unique(keyed.bits(0, Purpose.COHORT, 1, np.arange(200_000)))) == 200_000


@given(WORDS, st.integers(0, 2**40))
def test_integers_fit_a_signed_word(seed: int, client: int) -> None:
    assert 0 <= keyed.integer(seed, Purpose.MODULE, 1, client) < 2**63


def test_a_generator_belongs_to_its_key_alone() -> None:
    one, same, other = (keyed.generator(5, Purpose.PARTITION, key) for key in (1, 1, 2))
    other_purpose = keyed.generator(5, Purpose.SPLIT, 1)
    drawn = one.standard_normal(8)
    np.testing.assert_array_equal(drawn, same.standard_normal(8))
    assert not np.any(drawn == other.standard_normal(8))
    assert not np.any(drawn == other_purpose.standard_normal(8))


def test_no_global_generator_is_read_or_moved() -> None:
    def draw() -> tuple[object, ...]:
        bits = keyed.bits(0, Purpose.COHORT, np.arange(5)).tolist()
        return bits, keyed.integer(0, Purpose.MODEL), keyed.generator(0, Purpose.SPLIT).random()

    def states() -> tuple[object, ...]:
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = states()
    first = draw()
    assert states() == before
    random.random()
    np.random.random()  # noqa: NPY002
    torch.rand(1)
    assert draw() == first


def test_overflow_warnings_stay_inside() -> None:
    with np.errstate(over="raise"):
        keyed.bits(WORD - 1, Purpose.COHORT, np.uint64(WORD - 1))
