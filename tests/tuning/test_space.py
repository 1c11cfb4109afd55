"""The search space: checked against the schema before anything starts, and what each pick stands for."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from studies import Tunable

from raysim import Experiment
from raysim.errors import ConfigError
from raysim.tuning.sampling import check_sampling
from raysim.tuning.space import Space


def space(tunable: Tunable, keys: dict[str, Any], **tuning: Any) -> Space:
    return Space(tunable({"space": keys, **tuning}), None)


def test_ranges_take_the_kind_of_number_that_their_key_does(tunable: Tunable) -> None:
    found = space(
        tunable,
        {
            "client.optimizer.lr": {"low": 1e-3, "high": 1, "log": True},
            "client.steps": {"low": 1, "high": 5},
            "cohort": {"low": 2, "high": 6, "step": 2},
            "algorithm.server_momentum": {"low": 0, "high": 0.9},
            "client.batch_size": {"choices": [5, 10, "full"]},
        },
    ).distributions
    assert found == {
        "client.optimizer.lr": FloatDistribution(1e-3, 1.0, log=True),
        "client.steps": IntDistribution(1, 5),
        "cohort": IntDistribution(2, 6, step=2),
        "algorithm.server_momentum": FloatDistribution(0.0, 0.9),
        "client.batch_size": CategoricalDistribution([5, 10, "full"]),
    }


def test_the_default_pick_is_the_experiment_itself(tunable: Tunable) -> None:
    found = space(tunable, {"client.optimizer.lr": {"low": 0.01, "high": 1.0}, "client.steps": {"low": 1, "high": 5}})
    assert found.default == {"client.optimizer.lr": 0.1, "client.steps": 2}
    assert found.experiment_of(found.default) is found.experiment
    other = found.experiment_of({"client.optimizer.lr": 0.5, "client.steps": 4})
    assert (other.client.optimizer.lr, other.client.steps) == (0.5, 4)


def test_sections_are_chosen_whole_and_conditions_decide_what_else_is_varied(tunable: Tunable) -> None:
    adam = {"name": "adam", "lr": 0.01}
    found = space(
        tunable,
        {
            "client.optimizer": {"choices": [{"name": "sgd", "lr": 0.1}, adam]},
            "client.optimizer.beta1": {"low": 0.5, "high": 0.95, "when": {"client.optimizer": adam}},
        },
    )
    assert list(found.default) == ["client.optimizer"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(10):
        trial = study.ask()
        found.suggest(trial)
        experiment = found.experiment_of(trial.params)
        seen.add(experiment.client.optimizer.name)
        assert ("client.optimizer.beta1" in trial.params) is (experiment.client.optimizer.name == "adam")
        if experiment.client.optimizer.name == "adam":
            assert experiment.client.optimizer.beta1 == trial.params["client.optimizer.beta1"]
    assert seen == {"sgd", "adam"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"client.optimiser.lr": {"low": 0, "high": 1}},
            "'client.optimiser.lr'; did you mean 'client.optimizer'?",
        ),
        ({"client.optimizer.lr.x": {"low": 0, "high": 1}}, "client.optimizer.lr is not a section"),
        ({"model.name": {"low": 0, "high": 1}}, "model.name: does not take numbers; give choices"),
        ({"client.steps": {"low": 1.5, "high": 3}}, "client.steps: takes whole numbers"),
        ({"client.optimizer.lr": {"low": -1, "high": 1}}, "client.optimizer.lr: -1 is refused: client.optimizer.lr"),
        (
            {"client.optimizer.lr": {"low": 0.2, "high": 1.0}},
            "own value 0.1 is not among what is searched",
        ),
        ({"client.batch_size": {"choices": ["ful", 5]}}, 'client.batch_size: choice "ful" is refused'),
        ({"client.batch_size": {"choices": ["full", 5]}}, "the experiment's own value 10 is not among"),
        ({"seed": {"low": 0, "high": 9}}, "seed: cannot be varied, a lucky seed is no better setting"),
        ({"execution.actors": {"low": 1, "high": 2}}, "execution.actors: cannot be varied, it changes no result"),
        ({"aggregation.weights.loss": {"low": 0, "high": 5}}, "unknown key 'aggregation.weights.loss'"),
        ({}, "nothing is varied"),
        (
            {
                "client.epochs": {"low": 1, "high": 2, "when": {"client.steps": 2}},
                "client.steps": {"low": 1, "high": 3},
            },
            "its condition on client.steps must come after client.steps",
        ),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(tunable: Tunable, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        space(tunable, keys)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"low": 1, "high": 1}, "the range from low 1 to high 1 is empty"),
        ({"low": 0, "high": 1, "log": True}, "low is 0, which has no logarithm"),
        ({"low": 0}, "give low and high, or choices"),
        ({"low": 1, "high": 2, "choices": [1, 2]}, "choices exclude low, high, step and log"),
        ({"low": 1, "high": 2, "log": True, "step": 0.1}, "log and step exclude each other"),
        ({"choices": [1]}, "choices must be at least two"),
    ],
)
def test_a_range_that_is_none_is_refused_by_the_schema(dimension: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Experiment.parse({"tuning": {"space": {"client.optimizer.lr": dimension}}})
    assert "tuning.space.client.optimizer.lr: " in str(caught.value)


@pytest.mark.parametrize(
    ("tuning", "objectives", "message"),
    [
        ({"pruner": "median"}, 2, "median stops trials of a single objective only, and there are 2"),
        ({"sampler": "grid"}, 1, "client.optimizer.lr: the grid sampler needs a step"),
        ({"sampler": "cma_es"}, 1, "cma_es cannot search a single number"),
        ({"sampler": "cma_es"}, 2, "cma_es has a single objective"),
    ],
)
def test_samplers_and_pruners_that_do_not_fit_are_refused(
    tunable: Tunable, tuning: dict[str, Any], objectives: int, message: str
) -> None:
    found = space(tunable, {"client.optimizer.lr": {"low": 0.01, "high": 1.0}}, **tuning)
    section = found.experiment.tuning
    with pytest.raises(ConfigError, match=message):
        check_sampling(section.sampler, section.pruner, found, objectives)
