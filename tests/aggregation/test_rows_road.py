"""Records kept one by one: whoever kept them, the same rows, and the same sum when they are weighed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from raysim.aggregation import Field, KeptRows, RunningSum, combine, union, weighed

FIELDS = (Field("update", 7), Field("tau", 1))


def sent(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {field.name: torch.randn(count, field.size, generator=generator) for field in FIELDS}


def test_rows_joined_from_any_parts_weigh_to_the_bits_of_a_sum() -> None:
    records, weights = sent(6), np.array([0.1, 0.3, 0.05, 0.25, 0.2, 0.1])
    whole = RunningSum(3, FIELDS, torch.device("cpu"))
    whole.fold(np.arange(6), weights, records)
    expected = whole.seal()
    parts = []
    for chosen in ([4, 1], [0, 5, 2], [3]):
        kept = KeptRows(3, FIELDS)
        for position in chosen:
            one = {name: rows[position : position + 1] for name, rows in records.items()}
            assert kept.fold(np.array([position]), weights[[position]], one) == [None]
        parts.append(kept.seal())
    positions, weight = union(parts)
    assert positions.tolist() == list(range(6))
    assert weight == expected.weight
    rows = combine(parts)
    np.testing.assert_array_equal(rows.rows["update"], records["update"].numpy())
    total = weighed(rows, rows.weights, FIELDS)
    for name, column in expected.totals.items():
        np.testing.assert_array_equal(total.totals[name], column)


def test_what_a_sum_would_leave_out_has_no_row() -> None:
    records = sent(3)
    records["update"][1, 2] = torch.nan
    kept = KeptRows(1, FIELDS)
    reasons = kept.fold(np.arange(3), np.full(3, 1 / 3), records)
    assert reasons[1] == "update is not finite"
    rows = kept.seal()
    assert rows.positions.tolist() == [0, 2]
    assert rows.nbytes == 2 * (4 + 8 + 4 * 8)
    records["update"].zero_()
    assert rows.rows["update"].any(), "rows are copies: the worker uses its matrix again"


def test_a_field_that_is_missing_is_an_error() -> None:
    with pytest.raises(ValueError, match="tau"):
        KeptRows(1, FIELDS).fold(np.arange(1), np.ones(1), {"update": torch.zeros(1, 7)})
