"""What chance would bring about in some round is known before the first one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation
from torch import Tensor, nn

from raysim.algorithms import build_algorithm
from raysim.config import Experiment
from raysim.data import DataInfo
from raysim.errors import ConfigError, RaysimError
from raysim.execution.preparation.foresight import check_batches, idle_rounds
from raysim.selection.cohort import draw_round
from raysim.training import LocalWork, ParameterLayout


def experiment_of(**values: Any) -> Experiment:
    return Experiment.parse({"cohort": 2, "data": {"partition": "natural", "holdout": 0.2}, **values})


def net(norm: bool = True) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6) if norm else nn.LayerNorm(6), nn.Linear(6, 3))


def check(sizes: list[int], *, model: nn.Module | None = None, **values: Any) -> None:
    model, experiment = model or net(), experiment_of(**values)
    algorithm = build_algorithm(experiment.algorithm, ParameterLayout(model))
    check_batches(model, experiment, ListedFederation(sizes), algorithm)


BATCHES = {"batch_size": 5}


@pytest.mark.parametrize(
    ("sizes", "values", "told"),
    [
        ([10, 11], {"client": BATCHES}, "client 1 would: it has 11 samples, in batches of 5; set client.drop_last to"),
        ([6, 10, 11], {"client": BATCHES}, "client 0 and 1 of the other 2 would: it has 6 samples, in batches of 5"),
        ([10, 1], {"client": BATCHES}, "it has 1 sample, in batches of 5; give every client two samples or more"),
        ([11, 1], {"client": {**BATCHES, "drop_last": True}}, "client 1 would: it has 1 sample, in batches of 5; give"),
        ([10, 4], {"client": {"batch_size": 1}}, "it has 10 samples, in batches of 1; set it to 2 or more"),
        ([10, 1], {"client": {"batch_size": "full"}}, "it has 1 sample, in full batches; give every client two"),
        ([10, 1], {"algorithm": "fedsgd"}, "it has 1 sample, in full batches"),
        ([10, 11], {"client": {**BATCHES, "steps": 1}, "algorithm": "mime"}, "client 1 would: it has 11 samples"),
        ([10, 11], {"client": {**BATCHES, "steps": 1}, "evaluation": {"fine_tune": {"epochs": 1}}}, "client 1 would"),
    ],
)
def test_a_batch_of_one_that_a_model_refuses_is_refused_with_the_client_and_a_remedy(
    sizes: list[int], values: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(sizes, **values)
    line = str(caught.value)
    assert line.startswith("client.batch_size: the model cannot train on a single sample (Expected more than 1 value")
    assert told in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ([10, 0, 12], {"client": BATCHES}),
        ([10, 11], {"client": {**BATCHES, "drop_last": True}}),
        ([10, 11], {"client": {**BATCHES, "steps": 2}}),
        ([10, 11], {"client": {"batch_size": "full"}}),
        ([10, 11], {"client": BATCHES, "model": net(norm=False)}),
        ([10, 1], {"client": BATCHES, "execution": {"faults": {"error": "drop"}}}),
    ],
)
def test_what_the_model_can_train_on_passes(sizes: list[int], values: dict[str, Any]) -> None:
    check(sizes, **values)


class Squeezing(nn.Linear):
    """Takes the sample's dimension away with the target's, where there is one sample."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).squeeze()


@pytest.mark.parametrize(("sizes", "holdout", "test"), [([11], [4], 0), ([10], [1], 0), ([10], [4], 1001)])
def test_a_squeeze_of_one_sample_is_known_from_the_sizes(sizes: list[int], holdout: list[int], test: int) -> None:
    model, experiment = Squeezing(4, 1), experiment_of(client=BATCHES)
    federation = ListedFederation(sizes, holdout, test=test)
    federation.info = DataInfo("regression", (4,), "real")
    algorithm = build_algorithm(experiment.algorithm, ParameterLayout(model))
    with pytest.raises(RaysimError) as caught:
        check_batches(model, experiment, federation, algorithm)
    mode = "train on" if sizes == [11] else "evaluate"
    where = {11: "client 0 would: it has 11 samples", 1: "a client's holdout set would", 1001: "the test set would"}
    assert f"the model cannot {mode} a single sample (model Squeezing maps [1, 4] to []" in str(caught.value)
    assert where[next(n for n in (*sizes, *holdout, test) if n in where)] in str(caught.value)
    check_batches(model, experiment_of(client=BATCHES, evaluation={"every": 0}), fine(), algorithm)


def fine() -> ListedFederation:
    federation = ListedFederation([10, 12], [1, 1], test=1)
    federation.info = DataInfo("regression", (4,), "real")
    return federation


def test_leaving_out_last_batches_is_refused_where_there_are_none() -> None:
    with pytest.raises(ConfigError, match=r"client\.drop_last: fedsgd has no short batches; remove it"):
        check([10, 11], algorithm="fedsgd", client={"drop_last": True})


EMPTY = [0] * 6 + [9] * 4


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        (EMPTY, {}),
        (EMPTY, {"selection": "round_robin"}),
        (EMPTY, {"selection": "poisson"}),
        ([9] * 10, {"aggregation": {"weights": {"name": "explicit", "table": {0: 1, 1: 1, 2: 1, 3: 1}}}}),
    ],
)
def test_rounds_that_draw_nobody_with_weight_are_foretold_in_number(sizes: list[int], values: dict[str, Any]) -> None:
    experiment, federation = experiment_of(rounds=400, **values), ListedFederation(sizes)
    warning = idle_rounds(experiment, federation)
    assert warning is not None
    what = "weight" if "aggregation" in values else "training samples"
    assert warning.startswith(f"6 of 10 clients have no {what}: about ")
    told = int(warning.split("about ")[1].split()[0])
    tasks = [draw_round(experiment, federation, LocalWork(5), number) for number in range(1, 401)]
    assert abs(np.sum([not len(task.clients) for task in tasks]) - told) < 40


@pytest.mark.parametrize(
    ("sizes", "values"),
    [
        ([9] * 10, {}),
        ([0] + [9] * 9, {}),
        (EMPTY, {"cohort": 7}),
        (EMPTY, {"selection": "oort"}),
        ([9] * 10, {"selection": "poisson"}),
        ([0] * 2 + [9] * 998, {"rounds": 3}),
    ],
)
def test_where_somebody_has_weight_in_every_round_there_is_no_warning(sizes: list[int], values: dict[str, Any]) -> None:
    assert idle_rounds(experiment_of(**values), ListedFederation(sizes)) is None
