"""Sums of several parts of the clients: the mean of all, and that of each part, to the bits of a mean of them alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysim.aggregation import OF_PARTS, PART, PART_WEIGHTS, Field, Rule, WeightedMean, combine
from raysim.aggregation.parts import MeanOfParts
from raysim.errors import ConfigError

PARTS, SIZE = 4, 7
FIELDS = (Field("update", SIZE, parts=PARTS), PART)
VIEW: Any = None
"""Neither rule asks the server."""


def folded(rule: Rule, leases: list[list[int]], sent: dict[str, torch.Tensor], weights: Any) -> list[Any]:
    """A record for each lease, whose clients come in blocks of two."""
    records = []
    for lease in leases:
        accumulator = rule.accumulator(1, torch.device("cpu"))
        for block in (np.array(lease[i : i + 2], dtype=np.int64) for i in range(0, len(lease), 2)):
            some = {name: values[torch.from_numpy(block)] for name, values in sent.items()}
            assert accumulator.fold(block, weights[block], some) == [None] * len(block)
        records.append(accumulator.seal())
    return records


@given(st.integers(1, 9), st.integers(0, 10_000), st.integers(1, 3))
def test_the_means_are_those_of_the_clients_of_a_part_however_they_are_leased(n: int, seed: int, leases: int) -> None:
    random = np.random.default_rng(seed)
    part, weights = random.integers(0, PARTS, n), random.uniform(0.1, 1, n)
    weights /= weights.sum()
    update = torch.from_numpy(random.normal(size=(n, SIZE)).astype(np.float32))
    sent = {"update": update, PART.name: torch.from_numpy(part.astype(np.float32))[:, None]}
    dealt = [one.tolist() for one in np.array_split(random.permutation(n), leases)]
    rule, whole = MeanOfParts(FIELDS), slice(0, SIZE)
    records = folded(rule, dealt, sent, weights)
    found = rule.finish([combine(records)] if seed % 2 else records, VIEW)
    plain = WeightedMean([Field("update", SIZE)])
    of_all = plain.finish(folded(plain, [list(range(n))], sent, weights), VIEW).mean
    np.testing.assert_array_equal(found.mean.mean(FIELDS[0], whole), of_all.mean(FIELDS[0], whole))
    assert found.fields is not None
    each = {field.name: found.mean.mean(field, slice(0, field.size)) for field in found.fields}
    means, shares = each["update" + OF_PARTS].reshape(PARTS, SIZE), each[PART_WEIGHTS]
    for number in range(PARTS):
        mine = np.flatnonzero(part == number).tolist()
        assert shares[number] == pytest.approx(weights[mine].sum())
        expected = np.zeros(SIZE)
        if mine:
            alone = plain.finish(folded(plain, [mine], sent, weights), VIEW).mean
            expected = alone.mean(FIELDS[0], whole)
        np.testing.assert_array_equal(means[number], expected)


def test_a_client_in_two_records_is_refused_whatever_its_part() -> None:
    rule = MeanOfParts(FIELDS)
    sent = {"update": torch.ones(2, SIZE), PART.name: torch.tensor([[0.0], [1.0]])}
    records = folded(rule, [[0, 1], [1]], sent, np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="in two partial sums"):
        combine(records)


def test_a_lease_that_is_left_without_clients_adds_nothing() -> None:
    rule = MeanOfParts(FIELDS)
    sent = {"update": torch.ones(2, SIZE), PART.name: torch.tensor([[0.0], [1.0]])}
    records = folded(rule, [[], [0, 1]], sent, np.array([0.5, 0.5]))
    assert combine(records).positions.tolist() == [0, 1]


def test_parts_that_nobody_names_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="no field 'part'; send PART as well"):
        MeanOfParts(FIELDS[:1])
