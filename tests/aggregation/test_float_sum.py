"""Sums in float32: near the exact ones, half their bytes, the same clients left out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysim.aggregation import Field, FixedPoint, FloatSum, PartialSum, RunningSum, build_rule, combine, mean
from raysim.config.server import AggregationConfig

CPU = torch.device("cpu")
FIELDS = (Field("update", 100), Field("tau", 1, FixedPoint(40)))
INEXACT = build_rule(AggregationConfig(exact=False), FIELDS).fields


def block(clients: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {field.name: torch.randn(clients, field.size, generator=generator) for field in FIELDS}


def summed(fields: tuple[Field, ...], sent: dict[str, torch.Tensor], leases: int) -> PartialSum:
    clients = len(sent["update"])
    raw = np.random.default_rng(1).pareto(1.0, clients) + 0.01
    weights, sums = raw / raw.sum(), []
    for lease in np.array_split(np.arange(clients), leases):
        running = RunningSum(1, fields, CPU)
        for rows in np.array_split(lease, 2):
            assert running.fold(rows, weights[rows], {name: t[rows] for name, t in sent.items()}) == [None] * len(rows)
        sums.append(running.seal())
    return combine(sums)


def test_fields_keep_their_own_format_where_sums_are_exact() -> None:
    assert build_rule(AggregationConfig(), FIELDS).fields == FIELDS
    assert [field.format for field in INEXACT] == [FloatSum()] * 2


@pytest.mark.parametrize("leases", [1, 5])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 100.0])
def test_the_mean_is_within_a_millionth_of_the_exact_one(leases: int, scale: float) -> None:
    sent = {name: scale * values for name, values in block(300).items()}
    exact = mean(summed(FIELDS, sent, leases), FIELDS)
    found = mean(summed(INEXACT, sent, leases), INEXACT)
    for field in FIELDS:
        largest = np.abs(exact[field.name]).max()
        np.testing.assert_allclose(found[field.name], exact[field.name], rtol=0, atol=1e-6 * largest)


def test_totals_have_half_the_bytes() -> None:
    exact, found = summed(FIELDS, block(4), 2), summed(INEXACT, block(4), 2)
    assert found.totals["update"].dtype == np.float32
    assert [2 * field.nbytes for field in INEXACT] == [field.nbytes for field in FIELDS]
    for field in INEXACT:
        assert found.totals[field.name].nbytes == field.nbytes
    assert exact.nbytes - found.nbytes == sum(field.nbytes for field in INEXACT)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_client_that_is_not_finite_is_left_out_and_the_others_stay(bad: float) -> None:
    sent = block(3)
    sent["update"][1, 7] = bad
    running = RunningSum(1, INEXACT, CPU)
    weights = np.array([0.2, 0.3, 0.5])
    assert running.fold(np.arange(3), weights, sent) == [None, "update is not finite", None]
    expected = RunningSum(1, INEXACT, CPU)
    others = {name: values[[0, 2]] for name, values in sent.items()}
    expected.fold(np.array([0, 2]), weights[[0, 2]], others)
    np.testing.assert_array_equal(running.seal().totals["update"], expected.seal().totals["update"])


def test_a_client_of_weight_zero_adds_nothing_whatever_it_sends() -> None:
    running = RunningSum(1, INEXACT, CPU)
    broken = {name: torch.full_like(values, math.nan) for name, values in block(1).items()}
    assert running.fold(np.array([3]), np.array([0.0]), broken) == [None]
    partial = running.seal()
    assert partial.positions.tolist() == [3]
    assert not partial.totals["update"].any()
