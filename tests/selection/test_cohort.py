"""Who takes part in a round, and with what weight."""

from __future__ import annotations

import math
import random
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from listed_federation import ListedFederation

from raysim import keyed
from raysim.config import Experiment
from raysim.config.server import ExplicitWeightsConfig
from raysim.errors import ConfigError
from raysim.selection.cohort import check_weights, cohort_size, draw_cohort, draw_first, draw_round
from raysim.training import LocalWork

WORK = LocalWork(batch_size=10, epochs=2)


def experiment_of(cohort: float, **values: Any) -> Experiment:
    return Experiment.parse({"cohort": cohort, "data": {"partition": "natural"}, **values})


@given(st.integers(1, 400), st.data(), st.integers(0, 2**32), st.integers(1, 1000))
def test_a_uniform_cohort_has_its_size_and_is_sorted_and_distinct(
    population: int, data: st.DataObject, seed: int, round_number: int
) -> None:
    size = data.draw(st.integers(1, population))
    clients = draw_cohort(experiment_of(size, seed=seed), population, round_number)
    assert clients.dtype == np.int64
    assert len(clients) == size
    assert np.all(np.diff(clients) > 0)
    assert clients[0] >= 0
    assert clients[-1] < population


@pytest.mark.parametrize(
    ("size", "population"),
    [pytest.param(10, 50, id="many"), pytest.param(6, 60, id="few"), pytest.param(1, 40, id="one")],
)
def test_every_client_and_every_pair_is_drawn_equally_often(size: int, population: int) -> None:
    experiment, rounds = experiment_of(size), 3000
    drawn = np.zeros((rounds, population))
    for number in range(rounds):
        drawn[number, draw_cohort(experiment, population, number + 1)] = 1
    share = size / population
    expected = rounds * share
    chi_square = ((drawn.sum(axis=0) - expected) ** 2).sum() / (expected * (1 - share)) * (population - 1) / population
    assert chi_square < population - 1 + 5 * math.sqrt(2 * (population - 1))
    together = drawn.T @ drawn
    pairs = together[np.triu_indices(population, 1)] / rounds
    assert pairs.mean() == pytest.approx(share * (size - 1) / (population - 1))
    spread = math.sqrt(share * (size - 1) / (population - 1) / rounds)
    assert np.abs(pairs - pairs.mean()).max() <= 5.5 * spread
    successive = (drawn[1:] * drawn[:-1]).sum(axis=1).mean()  # clients of a round that were in the round before
    assert successive == pytest.approx(size * share, rel=0.15)


def test_everybody_takes_part_where_the_cohort_is_the_population() -> None:
    assert draw_cohort(experiment_of(9), 9, 1).tolist() == list(range(9))
    assert draw_cohort(experiment_of(1.0), 9, 7).tolist() == list(range(9))


def test_the_cohort_is_a_function_of_seed_and_round_alone() -> None:
    for population in (20, 1000):
        for selection in ("uniform", "poisson"):
            experiment = experiment_of(8, selection=selection)
            one = draw_cohort(experiment, population, 3)
            random.random()
            torch.rand(1)
            np.testing.assert_array_equal(draw_cohort(experiment, population, 3), one)
            others = [draw_cohort(experiment, population, 4), draw_cohort(experiment_of(8, seed=1), population, 3)]
            assert all(other.tolist() != one.tolist() for other in others)


def test_few_of_many_are_the_first_distinct_draws() -> None:
    for population, size in ((100, 12), (1000, 100)):
        expected: list[int] = []
        counter = 0
        while len(expected) < size:
            candidate = int(keyed.bits(0, keyed.Purpose.COHORT, 5, counter)) % population
            counter += 1
            if candidate not in expected:
                expected.append(candidate)
        assert draw_cohort(experiment_of(size), population, 5).tolist() == sorted(expected)


def test_a_poisson_cohort_has_the_right_mean_and_variance() -> None:
    experiment, rounds, population = experiment_of(10, selection="poisson"), 2000, 100
    drawn = np.zeros((rounds, population))
    for number in range(rounds):
        drawn[number, draw_cohort(experiment, population, number + 1)] = 1
    sizes = drawn.sum(axis=1)
    assert sizes.mean() == pytest.approx(10, abs=5 * math.sqrt(9 / rounds))
    assert sizes.var() == pytest.approx(9, rel=0.2)  # n p (1 - p)
    expected = rounds * 0.1
    chi_square = ((drawn.sum(axis=0) - expected) ** 2).sum() / (expected * 0.9)
    assert chi_square < 100 + 5 * math.sqrt(200)


def test_a_poisson_cohort_may_be_empty() -> None:
    experiment = experiment_of(1, selection="poisson")
    sizes = [len(draw_cohort(experiment, 3, number)) for number in range(1, 60)]
    assert min(sizes) == 0
    assert max(sizes) > 1


def test_a_cohort_of_a_million_takes_no_memory_of_a_million() -> None:
    experiment = experiment_of(100)
    draw_cohort(experiment, 1_000_000, 1)
    tracemalloc.start()
    try:
        clients = draw_cohort(experiment, 1_000_000, 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(clients) == 100
    assert clients[-1] > 900_000
    assert peak < 100_000


@pytest.mark.parametrize(
    ("cohort", "population", "size"),
    [(7, 10, 7), (1.0, 10, 10), (0.25, 10, 2), (0.01, 10, 1), (0.5, 1, 1), (0.1, 999, 100)],
)
def test_a_fraction_is_rounded_to_at_least_one_client(cohort: float, population: int, size: int) -> None:
    assert cohort_size(experiment_of(cohort), population) == size
    assert len(draw_cohort(experiment_of(cohort), population, 1)) == size


def test_more_clients_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        draw_cohort(experiment_of(11), 10, 1)
    assert str(caught.value).startswith(
        "cohort (11) is larger than the population (10 clients, the owners in data.source digits); lower cohort, or "
    )


def test_a_round_has_weights_steps_and_a_learning_rate() -> None:
    federation = ListedFederation([30, 5, 0, 12, 44])
    experiment = experiment_of(5, rounds=10, client={"optimizer": {"lr": 0.5}, "schedule": "cosine"})
    task = draw_round(experiment, federation, WORK, 10)
    assert (task.round, task.clients.tolist()) == (10, [0, 1, 2, 3, 4])
    np.testing.assert_allclose(task.weights, np.array([30, 5, 0, 12, 44]) / 91, rtol=1e-15)
    assert task.steps.tolist() == [6, 2, 0, 4, 10]
    assert task.lr == pytest.approx(0.0, abs=1e-15)
    assert draw_round(experiment, federation, WORK, 1).lr == 0.5


def test_the_weights_are_those_of_the_clients_that_were_drawn() -> None:
    sizes = list(range(1, 201))
    task = draw_round(experiment_of(10, seed=4), ListedFederation(sizes), WORK, 3)
    np.testing.assert_array_equal(task.clients, draw_cohort(experiment_of(10, seed=4), 200, 3))
    drawn = np.array(sizes)[task.clients]
    np.testing.assert_allclose(task.weights, drawn / drawn.sum(), rtol=1e-15)
    assert task.steps.tolist() == [2 * math.ceil(size / 10) for size in drawn]


@pytest.mark.parametrize("keep", [True, False])
def test_a_cohort_that_stays_for_several_rounds_takes_its_steps_in_the_last_and_has_the_same_stragglers(
    keep: bool,
) -> None:
    work, federation = LocalWork(batch_size=10, epochs=3, rounds=3), ListedFederation(list(range(1, 201)))
    experiment = experiment_of(10, seed=4, client={"stragglers": {"share": 0.5, "keep": keep}})
    tasks = [draw_round(experiment, federation, work, number) for number in range(1, 7)]
    alone = draw_round(experiment, federation, LocalWork(batch_size=10, epochs=3), 2)
    for first, second, last in (tasks[:3], tasks[3:]):
        assert not first.steps.any()
        assert not second.steps.any()
        assert last.steps.all()
        for task in (first, second):
            np.testing.assert_array_equal(task.clients, last.clients)
            np.testing.assert_array_equal(task.weights, last.weights)
    np.testing.assert_array_equal(tasks[5].clients, alone.clients)
    np.testing.assert_array_equal(tasks[5].steps, alone.steps)
    assert tasks[2].clients.tolist() != tasks[5].clients.tolist()


@pytest.mark.parametrize("stragglers", [{}, {"share": 0.5, "keep": False}])
@pytest.mark.parametrize(
    ("sizes", "weights"),
    [([0, 0, 0], "samples"), ([0, 0, 0], "uniform"), ([5, 5, 5], {"name": "explicit", "table": {7: 1.0}})],
)
def test_a_cohort_without_any_weight_is_a_round_without_clients(
    sizes: list[int], weights: Any, stragglers: dict[str, Any]
) -> None:
    experiment = experiment_of(3, aggregation={"weights": weights}, client={"stragglers": stragglers})
    task = draw_round(experiment, ListedFederation(sizes), WORK, 6)
    assert task.round == 6
    assert [len(task.clients), len(task.weights), len(task.steps)] == [0, 0, 0]


def test_a_cohort_whose_weight_is_all_the_stragglers_is_a_round_without_clients() -> None:
    experiment = experiment_of(2, client={"stragglers": {"share": 0.5, "keep": False}})
    federation = ListedFederation([40, 0])
    tasks = [draw_round(experiment, federation, WORK, number) for number in range(1, 9)]
    assert {tuple(task.clients.tolist()) for task in tasks} == {(), (0,)}
    assert all(len(task.clients) == len(task.weights) == len(task.steps) for task in tasks)


def test_the_first_round_with_somebody_in_it_is_the_one_to_time_engines_on() -> None:
    experiment, federation = experiment_of(1), ListedFederation([0] * 9 + [40])
    task = draw_first(experiment, federation, WORK)
    assert task.clients.tolist() == [9]
    assert task.round > 1
    nobody = draw_first(experiment_of(1), ListedFederation([0, 0]), WORK)
    assert (nobody.round, len(nobody.clients)) == (1, 0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({0: 1, 99: 1}, "there is no client 99; clients are 0 to 2"),
        ({-1: 1}, "there is no client -1; clients are 0 to 2"),
        ({1: 3.0, 2: 0.0}, "no client with a weight above 0 has training samples"),
    ],
)
def test_a_table_of_weights_that_does_not_fit_the_population_is_refused(table: dict[int, float], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^aggregation.weights.table: {message}"):
        check_weights(ExplicitWeightsConfig(table=table), ListedFederation([5, 0, 5]))


def test_a_table_need_not_name_everybody_and_may_name_empty_clients() -> None:
    check_weights(ExplicitWeightsConfig(table={0: 1.0, 1: 2.0}), ListedFederation([5, 0, 5]))
    check_weights(ExplicitWeightsConfig(table={1: 1.0}, default=0.5), ListedFederation([5, 0, 5]))


def test_an_empty_poisson_cohort_is_a_round_without_clients() -> None:
    experiment = experiment_of(1, selection="poisson")
    number = next(number for number in range(1, 60) if not len(draw_cohort(experiment, 3, number)))
    task = draw_round(experiment, ListedFederation([5, 5, 5]), WORK, number)
    assert (len(task.clients), len(task.weights), len(task.steps)) == (0, 0, 0)
