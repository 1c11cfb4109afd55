"""Schedules: everybody once, nobody idle for long; and the cost model that they are drawn by."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.execution.scheduling.schedule import (
    SEAL_SECONDS,
    CostModel,
    Schedule,
    StateLocations,
    schedule,
    schedule_by_owner,
)

COSTS = st.lists(st.floats(0, 200), max_size=60).map(np.array)


def loads_of(plan: Schedule, cost: npt.NDArray[np.float64]) -> list[float]:
    return [float(cost[part].sum()) for part in plan.first]


def best_possible(cost: npt.NDArray[np.float64], workers: int) -> float:
    """The smallest largest load, by trying every assignment."""
    return min(
        max(float(cost[np.array(who) == worker].sum()) for worker in range(workers))
        for who in product(range(workers), repeat=len(cost))
    )


@given(COSTS, st.integers(1, 9))
def test_every_client_is_given_out_once(cost: npt.NDArray[np.float64], workers: int) -> None:
    plan = schedule(cost, workers)
    given_out = np.concatenate([*plan.first, *plan.rest, np.empty(0, dtype=np.int64)])
    assert sorted(given_out.tolist()) == list(range(len(cost)))
    assert len(plan.first) == workers
    assert all(len(part) for part in plan.rest)
    assert all(part.dtype == np.int64 for part in (*plan.first, *plan.rest))


@given(COSTS, st.integers(1, 9))
def test_leases_are_bounded_so_that_a_dead_worker_loses_little(cost: npt.NDArray[np.float64], workers: int) -> None:
    plan = schedule(cost, workers)
    for part in plan.first:
        assert len(part) <= 1 or cost[part[1:]].sum() <= SEAL_SECONDS + 1e-6


@settings(max_examples=40)
@given(st.lists(st.floats(0.001, 0.05), min_size=1, max_size=7).map(np.array), st.integers(1, 3))
def test_the_longest_first_rule_is_within_a_third_of_the_best(cost: npt.NDArray[np.float64], workers: int) -> None:
    plan = schedule(cost, workers)
    assert plan.rest == ()  # so short a round is given out at once
    best = best_possible(cost, workers)
    assert max(loads_of(plan, cost)) <= (4 / 3 - 1 / (3 * workers)) * best * (1 + 1e-9)
    assert plan.imbalance == pytest.approx(max(loads_of(plan, cost)) / (cost.sum() / workers))


def test_a_long_round_keeps_a_share_for_whoever_is_idle_first() -> None:
    cost = np.random.default_rng(0).uniform(0.05, 0.2, 400)
    plan = schedule(cost, 4)
    kept = sum(float(cost[part].sum()) for part in plan.rest)
    assert 0.25 * cost.sum() < kept < 0.32 * cost.sum()
    assert 4 < len(plan.rest) <= 16
    smallest_first = min(cost[part].min() for part in plan.first)
    assert all(cost[part].max() <= smallest_first + 1e-12 for part in plan.rest)  # short ones fill the gaps
    assert plan.imbalance < 1.05


def test_one_worker_gets_everything() -> None:
    cost = np.array([3.0, 1.0, 2.0])
    plan = schedule(cost, 1)
    assert [part.tolist() for part in plan.first] == [[0, 2, 1]]
    assert plan.rest == ()
    assert plan.imbalance == 1.0


def test_more_workers_than_clients_leaves_some_without() -> None:
    plan = schedule(np.array([0.01, 0.02]), 4)
    assert sorted(len(part) for part in plan.first) == [0, 0, 1, 1]
    assert plan.imbalance == pytest.approx(0.02 / (0.03 / 4))


@pytest.mark.parametrize("workers", [1, 3])
def test_clients_that_cost_nothing_are_given_out_too(workers: int) -> None:
    for count in (0, 5):
        plan = schedule(np.zeros(count), workers)
        assert sum(len(part) for part in plan.first) == count
        assert plan.imbalance == 1.0


def test_a_round_of_more_work_than_a_lease_may_hold_is_cut() -> None:
    cost = np.full(40, 5.0)  # 100 seconds a worker
    plan = schedule(cost, 2)
    assert all(cost[part].sum() <= SEAL_SECONDS + 5.0 for part in (*plan.first, *plan.rest))
    assert sum(len(part) for part in (*plan.first, *plan.rest)) == 40


def test_schedules_are_the_same_every_time() -> None:
    cost = np.array([0.5, 0.5, 0.25, 0.5, 0.25, 0.5] * 7)
    one, two = schedule(cost, 3), schedule(cost, 3)
    assert [part.tolist() for part in one.first + one.rest] == [part.tolist() for part in two.first + two.rest]


def test_clients_go_to_the_worker_that_owns_them() -> None:
    plan = schedule_by_owner(np.array([3, 0, 0, 3, 1]))
    assert [part.tolist() for part in plan.first] == [[1, 2], [4], [], [0, 3]]
    assert plan.rest == ()
    assert schedule_by_owner(np.empty(0, dtype=np.int64)).first == ()


def locations(client: list[int], worker: list[int], last: list[int] | None = None) -> StateLocations:
    return StateLocations(np.array(client), np.array([-1] * len(client) if last is None else last), np.array(worker))


@given(
    st.lists(st.tuples(st.floats(0, 0.02), st.integers(-1, 2), st.integers(-1, 3)), min_size=1, max_size=60),
    st.lists(st.floats(0.5, 2), min_size=4, max_size=4).map(np.array),
)
def test_clients_at_home_are_given_out_once_and_hardly_later(
    clients: list[tuple[float, int, int]], slowness: npt.NDArray[np.float64]
) -> None:
    cost = np.array([seconds for seconds, _, _ in clients])
    where = locations([node for _, node, _ in clients], [0, 0, 1, -1], [worker for *_, worker in clients])
    plan, balanced = schedule(cost, 4, slowness, where), schedule(cost, 4, slowness)
    assert sorted(np.concatenate(plan.first).tolist()) == list(range(len(cost)))
    ends = [max(loads_of(one, cost) * slowness) for one in (plan, balanced)]
    assert ends[0] <= 1.05 * ends[1] * (1 + 1e-9)


def test_clients_stay_where_they_were_when_that_is_balanced() -> None:
    cost = np.array([3.0, 2.0, 1.0, 3.0, 2.0, 1.0]) / 100
    plan = schedule(cost, 4, locations=locations([1, 0, 0, 0, 1, 1], [0, 0, 1, 1], last=[2, 1, 1, 0, 3, 3]))
    assert [part.tolist() for part in plan.first] == [[3], [1, 2], [0], [4, 5]]


def test_clients_of_one_node_leave_it_only_as_far_as_others_would_be_idle() -> None:
    cost = np.full(20, 0.01)
    plan = schedule(cost, 4, locations=locations([0] * 20, [0, 0, 1, 1]))
    assert [len(part) for part in plan.first] == [5, 5, 5, 5]
    uneven = schedule(cost, 4, locations=locations([0] * 12 + [1] * 8, [0, 0, 1, 1]))
    at_home = [sum(position < 12 for position in part.tolist()) for part in uneven.first]
    assert at_home[:2] == [5, 5]
    assert sum(at_home[2:]) == 2


def test_the_rest_waits_in_pieces_of_one_home_longest_first() -> None:
    cost = np.linspace(0.2, 0.05, 400)
    node = [position % 3 - 1 for position in range(400)]
    plan = schedule(cost, 4, locations=locations(node, [0, 0, 1, 1]))
    assert all(len({node[position] for position in part.tolist()}) == 1 for part in plan.rest)
    firsts = [int(part[0]) for part in plan.rest]
    assert firsts == sorted(firsts)
    assert 4 < len(plan.rest) <= 16 + 3


def seconds(model: CostModel, *steps: int) -> list[float]:
    return model.seconds(np.array(steps)).tolist()


def test_the_cost_model_recovers_a_line() -> None:
    model, steps = CostModel(), np.array([1, 5, 10, 50])
    model.observe(steps, 0.02 + 0.003 * steps)
    assert (model.fixed, model.per_step) == (pytest.approx(0.02), pytest.approx(0.003))
    assert seconds(model, 100, 0) == [pytest.approx(0.32), 0.0]  # an empty client costs nothing


def test_the_cost_model_recovers_a_line_from_noise_and_forgets_an_old_one() -> None:
    generator, model = np.random.default_rng(0), CostModel()
    for fixed, per_step, rounds in ((0.5, 0.1, 3), (0.01, 0.002, 40)):
        for _ in range(rounds):
            steps = generator.integers(1, 40, 50)
            model.observe(steps, (fixed + per_step * steps) * generator.uniform(0.9, 1.1, 50))
    assert model.fixed == pytest.approx(0.01, abs=0.003)
    assert model.per_step == pytest.approx(0.002, rel=0.1)


def test_clients_of_one_size_are_explained_by_their_steps() -> None:
    model = CostModel()
    model.observe([6, 6, 6], [0.06, 0.05, 0.07])
    assert (model.fixed, model.per_step) == (pytest.approx(0.0, abs=1e-12), pytest.approx(0.01))
    assert seconds(model, 6, 12) == [pytest.approx(0.06), pytest.approx(0.12)]


@pytest.mark.parametrize(
    ("observed", "fixed", "per_step"),
    [([0.4, 0.1], 0.25, 0.0), ([0.0, 0.9], 0.0, (1 * 0.0 + 10 * 0.9) / 101)],
    ids=["faster with more steps", "below zero at none"],
)
def test_a_line_that_makes_no_sense_is_replaced_by_the_nearest_that_does(
    observed: list[float], fixed: float, per_step: float
) -> None:
    model = CostModel()
    model.observe([1, 10], observed)
    assert (model.fixed, model.per_step) == (pytest.approx(fixed), pytest.approx(per_step))


@given(st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e5)), max_size=6), max_size=6))
def test_estimates_are_never_negative_or_undefined(rounds: list[list[tuple[int, float]]]) -> None:
    model = CostModel()
    for observed in rounds:
        model.observe([steps for steps, _ in observed], [spent for _, spent in observed])
    assert model.fixed >= 0
    assert model.per_step >= 0
    estimates = model.seconds(np.array([0, 1, 1000]))
    assert np.isfinite(estimates).all()
    assert estimates[0] == 0
    assert estimates[1] <= estimates[2]


def test_nobody_and_empty_clients_teach_nothing() -> None:
    model = CostModel()
    model.observe([], [])
    model.observe([0, 0], [3.0, 4.0])
    assert (model.fixed, model.per_step) == (0.0, 1e-3)
