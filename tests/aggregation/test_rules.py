"""What every rule promises: the same mean from any grouping of the records, and the bytes that it said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from raysim.aggregation import Field, Rule, build_rule, combine
from raysim.arrays import Float64
from raysim.config.server import AggregationConfig
from raysim.errors import ConfigError

FIELDS = (Field("update", 7), Field("tau", 1))
CONFIGS = {
    "mean": {},
    "float32": {"exact": False},
    "learned": {"weights": {"name": "learned", "chooser": "choosers:keep"}},
    "kept": {},
}


class Server:
    """In the place of the server: its loss is the distance of a mean's `tau` from 1."""

    round, seed = 2, 0

    @contextmanager
    def computing(self) -> Iterator[None]:
        with torch.no_grad():
            yield

    def losses(self, means: Sequence[Mapping[str, Float64]]) -> Float64:
        return np.array([abs(float(mean["tau"][0]) - 1) for mean in means])


def rule_of(name: str) -> Rule:
    fields = (FIELDS[0], replace(FIELDS[1], kept=True)) if name == "kept" else FIELDS
    return build_rule(AggregationConfig.model_validate(CONFIGS[name]), fields)


@pytest.mark.parametrize("name", CONFIGS)
def test_any_grouping_of_records_ends_in_the_same_mean(name: str) -> None:
    rule = rule_of(name)
    generator = torch.Generator().manual_seed(0)
    sent = {field.name: torch.randn(6, field.size, generator=generator) for field in FIELDS}
    weights = np.array([0.1, 0.3, 0.05, 0.25, 0.2, 0.1])

    def record(chosen: list[int]) -> object:
        accumulator = rule.accumulator(2, torch.device("cpu"))
        some = {field: rows[chosen] for field, rows in sent.items()}
        assert accumulator.fold(np.array(chosen), weights[chosen], some) == [None] * len(chosen)
        return accumulator.seal()

    whole = rule.finish([record([0, 1, 2, 3, 4, 5])], Server())
    parts = [record([4, 1]), record([0, 5, 2]), record([3])]
    for records in (parts, [combine(parts)], [combine(parts[1:]), parts[0]]):
        found = rule.finish(records, Server())
        assert dict(found.metrics) == dict(whole.metrics)
        assert set(found.metrics) <= set(rule.metrics)
        for field in found.fields or rule.fields:
            columns = slice(0, field.size)
            close = {"rtol": 1e-5} if name == "float32" else {"rtol": 0, "atol": 0}
            np.testing.assert_allclose(found.mean.mean(field, columns), whole.mean.mean(field, columns), **close)


@pytest.mark.parametrize("name", CONFIGS)
def test_records_take_the_bytes_that_the_rule_says(name: str) -> None:
    rule = rule_of(name)
    records = []
    for chosen in (range(3), range(3, 5)):
        accumulator = rule.accumulator(2, torch.device("cpu"))
        accumulator.fold(
            np.array(chosen), np.full(len(chosen), 0.2), {f.name: torch.ones(len(chosen), f.size) for f in FIELDS}
        )
        records.append(accumulator.seal())
    assert sum(one.nbytes for one in records) == rule.record_bytes(2, 5)


def test_learned_weights_are_a_plain_mean_in_the_rounds_between() -> None:
    config = {"weights": {"name": "learned", "every": 3, "chooser": "choosers:keep"}}
    rule = build_rule(AggregationConfig.model_validate(config), FIELDS)
    assert [rule.in_round(number).road for number in range(1, 7)] == ["sum", "sum", "rows", "sum", "sum", "rows"]
    assert rule.in_round(1).fields == rule.in_round(3).fields


def test_what_is_kept_is_each_clients_own_and_changes_no_mean() -> None:
    found, sent = {}, {"update": torch.arange(14.0).view(2, 7), "tau": torch.tensor([[3.0], [4.0]])}
    for name in ("mean", "kept"):
        rule = rule_of(name)
        accumulator = rule.accumulator(2, torch.device("cpu"))
        accumulator.fold(np.array([1, 0]), np.array([0.2, 0.6]), sent)
        done = rule.finish([accumulator.seal()], Server())
        fields = done.fields or rule.fields
        found[name] = {field.name: done.mean.mean(field, slice(0, field.size)) for field in fields}
    for field in FIELDS:
        np.testing.assert_array_equal(found["kept"][field.name], found["mean"][field.name])
    np.testing.assert_array_equal(found["kept"]["tau.rows"], [4.0, 3.0])
    np.testing.assert_allclose(found["kept"]["rows.weights"], [0.75, 0.25])


def test_learned_weights_are_refused_where_a_field_is_kept() -> None:
    config = AggregationConfig.model_validate(CONFIGS["learned"])
    with pytest.raises(ConfigError, match=r"aggregation\.weights: learned tries means, and the server takes 'tau'"):
        build_rule(config, (FIELDS[0], replace(FIELDS[1], kept=True)))
