"""Classes of clients: who is in which, and what is wrong with a configuration of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from raysim import Experiment
from raysim.config.running import ExecutionConfig
from raysim.errors import ConfigError
from raysim.execution.placement.classes import ClientClasses
from raysim.execution.preparation.prepare import prepare_job

SIZES = np.array([5, 50, 500, 5000, 50, 5])
STEPS = SIZES // 5


def classes(**sections: Any) -> ClientClasses:
    return ClientClasses(ExecutionConfig(classes=sections))


def of(**sections: Any) -> list[int]:
    """Class of each of six clients."""
    return classes(**sections).of(np.arange(6), SIZES, STEPS).tolist()


def refusal(**sections: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        classes(**sections).census(SIZES, STEPS)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_clients_are_chosen_by_ids_and_ranges_with_both_ends() -> None:
    assert of(a={"clients": [0, "2-3"]}, b={"clients": ["5-5"]}) == [1, 0, 1, 1, 0, 2]
    assert classes().of(np.arange(6), SIZES, STEPS).tolist() == [0] * 6


def test_clients_are_chosen_by_what_they_have_or_do_and_the_highest_threshold_counts() -> None:
    assert of(a={"min_samples": 50}, b={"min_samples": 500}) == [0, 1, 2, 2, 1, 0]
    assert of(a={"min_steps": 1000}, b={"min_steps": 10}) == [0, 2, 2, 1, 2, 0]


def test_a_census_counts_clients_and_steps_of_every_class() -> None:
    clients, steps = classes(a={"min_samples": 500}, b={"clients": [0]}).census(SIZES, STEPS)
    assert clients.tolist() == [3, 2, 1]
    assert steps.tolist() == [10 + 10 + 1, 1100, 1]


def test_a_census_of_many_clients_is_that_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = classes(a={"min_samples": 500}, b={"clients": [0]}).census(SIZES, STEPS)
    monkeypatch.setattr("raysim.execution.placement.classes._CHUNK", 4)
    parts = classes(a={"min_samples": 500}, b={"clients": [0]}).census(SIZES, STEPS)
    assert [one.tolist() for one in whole] == [one.tolist() for one in parts]


def test_what_is_wrong_with_classes_is_one_line() -> None:
    assert refusal(a={"clients": ["0-2"]}, b={"clients": [2]}) == (
        "execution.classes: client 2 is named twice, in a and b"
    )
    assert refusal(a={"clients": [1, 1]}) == "execution.classes: client 1 is named twice, in a"
    assert refusal(a={"clients": [3]}, b={"min_samples": 500}) == (
        "execution.classes: client 3 is in two of them, a and b"
    )
    assert refusal(a={"min_steps": 10}, b={"min_steps": 10}) == (
        "execution.classes: a and b have the same min_steps, 10"
    )
    assert refusal(a={"clients": ["4-6"]}) == ("execution.classes.a.clients: there is no client 6; the last of 6 is 5")
    assert refusal(a={"min_samples": 5001}) == "execution.classes.a: no client is in it; lower its minimum or remove it"
    assert refusal(a={"clients": []}) == "execution.classes.a.clients: an empty list names no client"
    assert refusal(a={"clients": ["5-4"]}) == "execution.classes.a.clients: '5-4' ends before it starts"


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        ({"classes": {"a": {}}}, r"execution\.classes\.a: choose its clients by one of clients, min_samples and"),
        ({"classes": {"a": {"clients": [0], "min_steps": 3}}}, "not by clients and min_steps"),
        ({"classes": {"a": {"clients": [0], "num_gpu": 1}}}, r"'execution\.classes\.a\.num_gpu'; did you mean 'num_g"),
        ({"classes": {"default": {"clients": [0]}}}, "'default' are the clients in no other class"),
        ({"classes": {"a": {"clients": [0]}}, "clients_per_actor": 1}, "by clients_per_actor or by classes, not by bo"),
    ],
)
def test_a_class_that_the_schema_refuses(execution: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Experiment.parse({"execution": execution})


def prepared(tmp_path: Any, **execution: Any) -> Any:
    data = {"source": {"name": "synthetic_virtual", "clients": 9, "samples": 20}, "cache": str(tmp_path)}
    training = {"engine": "sequential"}
    return prepare_job(Experiment.parse({"cohort": 9, "data": data, "training": training, "execution": execution}))


def test_classes_are_checked_before_anything_starts(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="there is no client 9; the last of 9 is 8"):
        prepared(tmp_path, executor="inprocess", classes={"a": {"clients": [9]}})


def test_all_classes_compute_on_the_same_kind_of_device(tmp_path: Any) -> None:
    large = {"clients": [3], "num_gpus": 1}
    with pytest.raises(ConfigError, match=r"execution\.num_gpus: all actors compute on the same kind of device"):
        prepared(tmp_path, classes={"large": large})
    with pytest.raises(ConfigError, match=r"execution\.classes\.small\.num_gpus: all actors compute"):
        prepared(tmp_path, num_gpus=0.5, classes={"large": large, "small": {"clients": [4]}})
    assert prepared(tmp_path, classes={"large": large}, device="cpu").job.engine.device == "cpu"
    everybody = {"large": {"clients": ["0-8"], "num_gpus": 1}}
    assert prepared(tmp_path, classes=everybody).job.engine.device == "cuda"
