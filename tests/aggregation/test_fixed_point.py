"""Rounding to integers: exact where floats are not, near enough to a float sum, and closed to what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysim.aggregation import FixedPoint

UPDATE = FixedPoint()
Weights = np.ndarray[tuple[int], np.dtype[np.float64]]


def added(
    rows: list[list[float]], weights: list[float], start: int = 0, form: FixedPoint = UPDATE, *, fresh: bool = False
) -> list[int]:
    total = torch.full((len(rows[0]),), start, dtype=torch.int64)
    form.add(total, torch.tensor(rows, dtype=torch.float32), np.array(weights), fresh=fresh)
    return total.tolist()


def one_at_a_time(values: torch.Tensor, weights: Weights, bits: int = 52) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A plain loop: every addend rounded by itself, then added."""
    total = np.zeros(values.shape[1], dtype=np.int64)
    for row, weight in zip(values.numpy().astype(np.float64), weights, strict=True):
        if weight:
            total += np.rint(row * (weight * 2.0**bits)).astype(np.int64)
    return total


def test_the_default_has_52_fraction_bits_and_eleven_before_the_point() -> None:
    assert UPDATE.fraction_bits == 52
    assert UPDATE.scale == 2.0**52
    assert 2047 < UPDATE.limit < 2048
    assert FixedPoint(40).limit == pytest.approx(2**23, abs=1)


@given(st.lists(st.floats(-2047, 2047, width=32), min_size=1, max_size=20), st.floats(0, 1), st.integers(20, 52))
def test_an_addend_is_the_weighted_value_rounded_to_a_unit(values: list[float], weight: float, bits: int) -> None:
    form = FixedPoint(bits)
    totals = added([values], [weight], 5, form)
    assert totals == [5 + round(value * (weight * 2.0**bits)) for value in values]
    for total, value in zip(totals, values, strict=True):
        assert abs(form.decode(np.array([total - 5]))[0] - weight * value) <= 0.51 / form.scale + 1e-15 * abs(value)


@pytest.mark.parametrize("rows", [1, 2, 7, 300])
@pytest.mark.parametrize("size", [1, 16, 500, (1 << 16) + 17])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_block_is_the_plain_loop_over_its_rows(rows: int, size: int, fresh: bool) -> None:
    if rows * size > 1 << 20:
        rows = 20
    generator = torch.Generator().manual_seed(rows * size)
    values = torch.randn(rows, size, generator=generator)
    weights = np.random.default_rng(rows).random(rows) / rows
    weights[2::3] = 0.0
    values[2::3] = math.nan  # rows of weight 0 are not looked at
    total = torch.arange(size)
    UPDATE.add(total, values, weights, fresh=fresh)
    expected = one_at_a_time(values, weights) + (0 if fresh else np.arange(size))
    np.testing.assert_array_equal(total.numpy(), expected)


def test_a_fresh_total_to_which_nothing_is_added_is_zero() -> None:
    assert added([[1.0, 2.0]], [0.0], 7, fresh=True) == [0, 0]
    assert added([[1.0, 2.0]], [0.0], 7) == [7, 7]


@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_rows_may_be_added_in_any_blocks(data: st.DataObject, rows: int, size: int) -> None:
    values = [data.draw(st.lists(st.floats(-2047, 2047, width=32), min_size=size, max_size=size)) for _ in range(rows)]
    weights = [data.draw(st.floats(0, 1 / rows)) for _ in range(rows)]
    cut = data.draw(st.integers(0, rows))
    total = torch.zeros(size, dtype=torch.int64)
    for block in (slice(cut), slice(cut, None)):
        UPDATE.add(total, torch.tensor(values[block]).view(-1, size), np.array(weights[block]))
    assert total.tolist() == added(values, weights)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2048.0, -2048.0, 1e30])
@pytest.mark.parametrize("place", [0, 7, 70_000])
def test_rows_with_a_value_that_is_not_finite_or_out_of_range_are_told_apart(bad: float, place: int) -> None:
    values = torch.ones(3, 70_001)
    values[1, place] = bad
    assert UPDATE.in_range(values).tolist() == [True, False, True]


def test_a_row_without_values_is_in_range() -> None:
    assert UPDATE.in_range(torch.empty(2, 0)).tolist() == [True, True]


@pytest.mark.parametrize("extreme", [2047.9989, -2047.9989])
def test_the_largest_values_cannot_overflow_however_many_clients_there_are(extreme: float) -> None:
    total, value = torch.zeros(1, dtype=torch.int64), torch.tensor([[extreme]])
    assert UPDATE.in_range(value).all()
    clients = 1000
    for _ in range(clients):
        UPDATE.add(total, value, np.array([1 / clients]))
    assert UPDATE.decode(total.numpy())[0] == pytest.approx(value.item(), rel=1e-12)


def test_small_values_and_small_weights_do_not_vanish() -> None:
    assert UPDATE.decode(np.array(added([[1e-8, -1e-8]], [1e-4]))) == pytest.approx([1e-12, -1e-12], rel=1e-3)
    assert added([[0.0, -0.0]], [1.0]) == [0, 0]


def test_numbers_are_encoded_as_integers_of_any_size() -> None:
    assert UPDATE.encode(1.0) == 2**52
    assert UPDATE.encode(-0.5) == -(2**51)
    assert UPDATE.encode(4096.0) == 2**64
    np.testing.assert_array_equal(UPDATE.decode(np.array([2**52, -(2**51), 0])), [1.0, -0.5, 0.0])
