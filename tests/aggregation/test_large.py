"""Values out of a total's range: added exactly beside it, in any order, on every way that a sum takes."""

from __future__ import annotations

import math
import pickle
import random
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.aggregation import ColumnSums, Field, FixedPoint, KeptRows, PartialSum, RunningSum, combine, mean
from raysim.aggregation.large import DIGITS, LargeSum, add_large
from raysim.aggregation.records import column_mean
from raysim.aggregation.rows import weighed

CPU = torch.device("cpu")
SIZE = 9
FIELDS = (Field("update", SIZE), Field("square", 1, FixedPoint(40)), Field("share", 1, summed=True))
LARGEST = float(np.finfo(np.float32).max)

magnitudes = st.one_of(st.floats(-2047, 2047, width=32), st.floats(-LARGEST, LARGEST, width=32))


def folded(values: npt.NDArray[np.float32], weights: npt.NDArray[np.float64], positions: range) -> PartialSum:
    running = RunningSum(1, FIELDS, CPU)
    for position in positions:
        row = torch.from_numpy(values[position : position + 1])
        sent = {"update": row, "square": row[:, :1], "share": row[:, 1:2]}
        assert running.fold(np.array([position], np.int32), weights[position : position + 1], sent) == [None]
    return running.seal()


def drawn(data: st.DataObject, clients: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    rows = [data.draw(st.lists(magnitudes, min_size=SIZE, max_size=SIZE)) for _ in range(clients)]
    raw = np.array([data.draw(st.floats(1e-6, 1)) for _ in range(clients)])
    return np.array(rows, dtype=np.float32), raw / raw.sum() * (1 - 1e-12)


@settings(max_examples=60)
@given(st.data(), st.integers(1, 6))
def test_the_mean_of_any_finite_values_is_the_exact_one(data: st.DataObject, clients: int) -> None:
    values, weights = drawn(data, clients)
    found = mean(folded(values, weights, range(clients)), FIELDS)["update"]
    units = sum(round(Fraction(w) * 2**52) for w in weights.tolist())
    for column in range(SIZE):
        addends = [w * x for w, x in zip(weights.tolist(), values[:, column].tolist(), strict=True)]
        exact = math.fsum(addends) / (units / 2**52)
        scale = max(1.0, *map(abs, addends)) / (units / 2**52)
        assert abs(found[column] - exact) <= (clients + 4) * 2.0**-52 * scale


@settings(max_examples=60)
@given(st.data(), st.integers(2, 6), st.randoms(use_true_random=False))
def test_any_grouping_and_blocks_give_the_same_bits(data: st.DataObject, clients: int, chance: random.Random) -> None:
    values, weights = drawn(data, clients)
    whole = folded(values, weights, range(clients))
    weight = whole.weight / 2.0**52
    expected = {field.name: column_mean([whole], field, weight, slice(0, field.size)) for field in FIELDS}

    border = data.draw(st.integers(1, clients - 1))
    parts = [folded(values, weights, range(border)), folded(values, weights, range(border, clients))]
    chance.shuffle(parts)
    for sums in (parts, [combine(parts)]):
        columns = ColumnSums([pickle.loads(pickle.dumps(one)) for one in sums])
        for field in FIELDS:
            np.testing.assert_array_equal(columns.mean(field, slice(0, field.size)), expected[field.name])
            start = chance.randint(0, field.size)
            np.testing.assert_array_equal(
                columns.mean(field, slice(start, field.size)), expected[field.name][start:], strict=True
            )

    block, kept = RunningSum(1, FIELDS, CPU), KeptRows(1, FIELDS)
    rows = torch.from_numpy(values)
    sent = {"update": rows, "square": rows[:, :1], "share": rows[:, 1:2]}
    assert block.fold(np.arange(clients), weights, sent) == [None] * clients
    assert kept.fold(np.arange(clients), weights, sent) == [None] * clients
    for one in (block.seal(), weighed(kept.seal(), weights, FIELDS)):
        for field in FIELDS:
            found = column_mean([one], field, weight, slice(0, field.size))
            np.testing.assert_array_equal(found, expected[field.name])


def test_values_in_range_keep_their_bits_whoever_else_is_out_of_it() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, SIZE)).astype(np.float32)
    weights = np.full(4, 0.25)
    before = folded(values, weights, range(4))
    assert not before.large
    beside = values.copy()
    beside[2, 3] = 4e8
    after = folded(beside, weights, range(4))
    others = np.arange(SIZE) != 3
    np.testing.assert_array_equal(after.totals["update"][others], before.totals["update"][others])
    assert after.large["update"].columns.tolist() == [3]
    assert after.nbytes == before.nbytes + 8 * (1 + DIGITS)


@pytest.mark.parametrize("bits", [32, 40, 52, 62])
@pytest.mark.parametrize("extreme", [2048.0, 4e8, 1e12, LARGEST])
def test_as_many_clients_as_a_cohort_can_have_do_not_overflow(bits: int, extreme: float) -> None:
    """Twice the sum, 30 times: 2^30 clients of weight 2^-30."""
    form = FixedPoint(bits)
    values = np.array([extreme, -extreme], dtype=np.float32)
    total = LargeSum.of(np.arange(2), values, 2.0**-30, form)
    for _ in range(30):
        total = add_large([total, total])
    np.testing.assert_allclose(total.decode(form), values.astype(np.float64), rtol=2.0**-22 if bits < 40 else 1e-9)


def test_large_sums_that_cancel_leave_the_small_ones() -> None:
    values = np.zeros((3, SIZE), dtype=np.float32)
    values[:, 0] = [1e12, -1e12, 0.5]
    found = mean(folded(values, np.full(3, 0.25), range(3)), FIELDS)["update"]
    assert found[0] == pytest.approx(0.5 / 3, rel=1e-15)


def test_a_model_that_moves_by_thousands_everywhere_has_diverged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysim.aggregation.running_sum.MOST", 4)
    running = RunningSum(1, FIELDS[:1], CPU)
    rows = torch.zeros(2, SIZE)
    rows[0, :4], rows[1, :5] = 5000.0, -5000.0
    reason = "update has 5 values beyond ±2048: the client has diverged"
    assert running.fold(np.arange(2), np.full(2, 0.5), {"update": rows}) == [None, reason]
    assert running.seal().large["update"].columns.tolist() == [0, 1, 2, 3]
