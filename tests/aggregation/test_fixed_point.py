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


def folded(values: list[float], weight: float, start: int = 0, form: FixedPoint = UPDATE) -> tuple[list[int], bool]:
    total = torch.full((len(values),), start, dtype=torch.int64)
    added = form.fold(total, torch.tensor(values, dtype=torch.float32), weight)
    return total.tolist(), added


def test_the_default_has_52_fraction_bits_and_eleven_before_the_point() -> None:
    assert UPDATE.fraction_bits == 52
    assert UPDATE.scale == 2.0**52
    assert 2047 < UPDATE.limit < 2048
    assert FixedPoint(40).limit == pytest.approx(2**23, abs=1)


@given(st.lists(st.floats(-2047, 2047, width=32), min_size=1, max_size=20), st.floats(0, 1), st.integers(20, 52))
def test_an_addend_is_the_weighted_value_rounded_to_a_unit(values: list[float], weight: float, bits: int) -> None:
    form = FixedPoint(bits)
    totals, added = folded(values, weight, 5, form)
    assert added
    assert totals == [5 + round(value * (weight * 2.0**bits)) for value in values]
    for total, value in zip(totals, values, strict=True):
        assert abs(form.decode(np.array([total - 5]))[0] - weight * value) <= 0.51 / form.scale + 1e-15 * abs(value)


@given(st.lists(st.floats(-2047, 2047, width=32), min_size=1, max_size=20), st.floats(0, 1))
def test_folding_with_the_opposite_weight_takes_an_addend_back(values: list[float], weight: float) -> None:
    total = torch.arange(len(values)) - 3
    before = total.clone()
    for sign in (1, -1):
        assert UPDATE.fold(total, torch.tensor(values, dtype=torch.float32), sign * weight)
    assert torch.equal(total, before)


def test_a_long_vector_is_folded_whole() -> None:
    size = 3 * (1 << 16) + 17
    values = torch.randn(size, generator=torch.Generator().manual_seed(0))
    total = torch.zeros(size, dtype=torch.int64)
    assert UPDATE.fold(total, values, 0.25)
    np.testing.assert_array_equal(total.numpy(), np.rint(values.numpy().astype(np.float64) * 2.0**50).astype(np.int64))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2048.0, -2048.0, 1e30])
@pytest.mark.parametrize("place", [0, 7, 70_000])
def test_a_value_that_is_not_finite_or_out_of_range_leaves_the_total_as_it_was(bad: float, place: int) -> None:
    values = torch.ones(70_001)
    values[place] = bad
    total = torch.arange(70_001)
    assert not UPDATE.fold(total, values, 0.5)
    assert torch.equal(total, torch.arange(70_001))


@pytest.mark.parametrize("extreme", [2047.9989, -2047.9989])
def test_the_largest_values_cannot_overflow_however_many_clients_there_are(extreme: float) -> None:
    total, value = torch.zeros(1, dtype=torch.int64), torch.tensor([extreme])
    assert abs(value.item()) < UPDATE.limit
    clients = 1000
    for _ in range(clients):
        assert UPDATE.fold(total, value, 1 / clients)
    assert UPDATE.decode(total.numpy())[0] == pytest.approx(value.item(), rel=1e-12)


def test_small_values_and_small_weights_do_not_vanish() -> None:
    totals, added = folded([1e-8, -1e-8], 1e-4)
    assert added
    assert UPDATE.decode(np.array(totals)) == pytest.approx([1e-12, -1e-12], rel=1e-3)
    assert folded([0.0, -0.0], 1.0) == ([0, 0], True)


def test_numbers_are_encoded_as_integers_of_any_size() -> None:
    assert UPDATE.encode(1.0) == 2**52
    assert UPDATE.encode(-0.5) == -(2**51)
    assert UPDATE.encode(4096.0) == 2**64
    np.testing.assert_array_equal(UPDATE.decode(np.array([2**52, -(2**51), 0])), [1.0, -0.5, 0.0])
