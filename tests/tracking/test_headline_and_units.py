from __future__ import annotations

import math

import pytest

from raysim.config import Experiment
from raysim.tracking import headline_metric, improves, measure, smaller_is_better
from raysim.tracking.configuration import ABSENT, chosen_keys, differences, flatten
from raysim.tracking.units import duration, figure, quantity, rate, size, time_left


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["train/loss", "test/loss", "test/accuracy"], "test/accuracy"),
        (["test/accuracy", "validation/loss", "validation/accuracy"], "validation/accuracy"),
        (["test/loss", "test/rmse"], "test/rmse"),
        (["train/loss", "clients/accuracy/mean", "clients/accuracy/worst10"], "clients/accuracy/mean"),
        (["train/loss"], "train/loss"),
        (["test/loss", "test/macro_f1", "test/accuracy"], "test/accuracy"),
        ([], None),
    ],
)
def test_the_headline_is_what_a_practitioner_would_look_at(available: list[str], chosen: str | None) -> None:
    assert headline_metric(available) == chosen


def test_the_experiment_can_name_the_headline() -> None:
    experiment = Experiment().updated(["stop.metric=test/loss", "stop.patience=3"])
    assert headline_metric(["test/accuracy", "test/loss"], experiment) == "test/loss"
    assert headline_metric(["test/accuracy"], experiment) == "test/accuracy"


def test_losses_and_errors_are_better_when_small() -> None:
    assert all(
        smaller_is_better(name) for name in ("test/loss", "validation/rmse", "clients/mae/worst10", "train/loss")
    )
    assert not any(smaller_is_better(name) for name in ("test/accuracy", "test/macro_f1", "clients/top5/mean"))
    assert measure("clients/accuracy/worst10") == measure("test/accuracy") == "accuracy"
    assert measure("test/my.metrics:score") == "my.metrics:score"


def test_nan_never_improves() -> None:
    assert improves("test/loss", 1.0, None)
    assert improves("test/loss", 0.5, 1.0)
    assert not improves("test/accuracy", 0.5, 1.0)
    assert not improves("test/accuracy", math.nan, None)


def test_quantities_read_well() -> None:
    assert [duration(s) for s in (0, 0.0042, 0.048, 2.44, 59.97, 185, 7385, math.nan)] == [
        "0 ms", "4.2 ms", "48 ms", "2.4 s", "1:00 min", "3:05 min", "2:03:05 h", "–",
    ]  # fmt: skip
    assert [time_left(s) for s in (0.1, 12.4, 75)] == ["1 s", "12 s", "1:15 min"]
    assert [size(n) for n in (0, 640, 999.6, 1_663_370, 25e9)] == ["0 B", "640 B", "1 kB", "1.66 MB", "25 GB"]
    assert [quantity(n) for n in (0, 199_210, 1_663_370, math.inf)] == ["0", "199,210", "1.66 M", "–"]
    assert [rate(n) for n in (0.05, 3.21, 84.2, 12_400)] == ["0.05", "3.2", "84", "12,400"]
    assert [figure(x) for x in (None, math.nan, math.inf, 0.0, 0.93124, 123.456, 7.919e-4, 2e-5, 1e9)] == [
        "–", "–", "∞", "0.0000", "0.9312", "123.46", "0.000792", "2.000e-05", "1.000e+09",
    ]  # fmt: skip


def test_differences_name_keys_that_one_side_lacks() -> None:
    found = differences({"a": 1, "b": {"c": 2, "d": []}}, {"a": 1, "b": {"c": 3}, "e": None})
    assert [(d.key, d.left, d.right) for d in found] == [("b.c", 2, 3), ("b.d", [], ABSENT), ("e", ABSENT, None)]
    assert differences({"ab": 1, "a": {"b": 1}}, {"ab": 2, "a": {"b": 2}}, ignore=["a"])[0].key == "ab"
    assert flatten({"a": {"b": {}}}) == {"a.b": {}}


def test_chosen_keys_are_those_that_somebody_set() -> None:
    assert chosen_keys(Experiment()) == frozenset()
    chosen = chosen_keys(Experiment().updated(["model={name: mlp, hidden: [64]}", "client.epochs=5", "rounds=100"]))
    assert chosen == {"model.name", "model.hidden", "client.epochs"}
    assert chosen_keys(Experiment().updated(["model={name: mlp}"])) == {"model.name"}
