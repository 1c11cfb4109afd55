"""Cohorts given out by class and by speed: everybody once, slow machines less, never another result."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysim.execution.scheduling.assignment import Assignment, EligibleWorkers, assign
from raysim.execution.scheduling.schedule import StateLocations, schedule
from raysim.execution.scheduling.speeds import Speeds


def crew(*workers: int, slowness: list[float] | None = None) -> EligibleWorkers:
    return EligibleWorkers(workers, np.ones(len(workers)) if slowness is None else np.array(slowness))


def given_out(plan: Assignment) -> list[int]:
    parts = [*plan.first.values(), *(part for _, part in plan.rest)]
    return sorted(np.concatenate([*parts, np.empty(0, dtype=np.int64)]).tolist())


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 2)), max_size=60), st.integers(1, 4))
def test_every_client_goes_once_and_to_a_worker_of_its_class(clients: list[tuple[float, int]], size: int) -> None:
    cost, group = np.array([c for c, _ in clients]), np.array([g for _, g in clients], dtype=np.int64)
    eligible = {g: crew(*range(10 * g, 10 * g + size)) for g in range(3)}
    plan = assign(cost, group, eligible)
    assert given_out(plan) == list(range(len(clients)))
    for worker, part in plan.first.items():
        assert set(group[part]) == {worker // 10}
    for one, part in plan.rest:
        assert set(group[part]) == {one}


def test_classes_that_share_workers_give_each_a_first_piece_once() -> None:
    plan = assign(np.full(4, 0.01), np.array([0, 0, 1, 1]), {0: crew(0, 1), 1: crew(0, 1)})
    assert given_out(plan) == [0, 1, 2, 3]
    assert {one for one, _ in plan.rest} == {1}


def test_clients_of_each_class_go_where_their_rows_are() -> None:
    """Workers 5 and 9 are on one node, 2 and 7 on the other; clients were with the first or nobody is known."""
    at = np.full(10, -1)
    at[[5, 9]], at[[2, 7]] = 0, 1
    locations = StateLocations(np.array([0, 1, 1, 0, 1, 0, 1, 0]), np.array([5, 2, -1, -1, 7, 9, -1, -1]), at)
    eligible = {0: crew(2, 5), 1: crew(7, 9)}
    plan = assign(np.full(8, 0.01), np.array([0, 0, 0, 0, 1, 1, 1, 1]), eligible, locations)
    assert {worker: sorted(part.tolist()) for worker, part in plan.first.items()} == {
        2: [1, 2],
        5: [0, 3],
        7: [4, 6],
        9: [5, 7],
    }


def test_a_slow_worker_gets_work_in_proportion() -> None:
    cost = np.random.default_rng(0).uniform(0.001, 0.002, 400)
    plan = schedule(cost, 3, np.array([1.0, 1.0, 3.0]))
    loads = [float(cost[part].sum()) for part in plan.first]
    assert loads[0] == pytest.approx(loads[1], rel=0.02)
    assert loads[0] == pytest.approx(3 * loads[2], rel=0.05)
    assert plan.imbalance < 1.02


def test_one_long_client_does_not_go_to_the_slow_worker_just_because_it_is_idle() -> None:
    plan = schedule(np.array([0.1, 0.09, 0.08]), 2, np.array([1.0, 5.0]))
    assert [part.tolist() for part in plan.first] == [[0, 1, 2], []]


def test_workers_that_are_equally_slow_are_scheduled_as_equals() -> None:
    cost = np.random.default_rng(1).uniform(0.01, 0.02, 50)
    one, two = schedule(cost, 4), schedule(cost / 2, 4, np.full(4, 2.0))
    assert [part.tolist() for part in one.first] == [part.tolist() for part in two.first]


def test_speeds_are_learnt_by_place_and_a_new_place_counts_as_average() -> None:
    speeds = Speeds()
    assert speeds.slowness(["a", "b"]).tolist() == [1.0, 1.0]
    for _ in range(12):
        speeds.observe(["a", "b", "a", "b"], np.full(4, 0.5), np.array([0.25, 1.0, 0.25, 1.0]))
    a, b, new = speeds.slowness(["a", "b", "c"])
    assert (a, b, new) == (pytest.approx(0.5, rel=0.02), pytest.approx(2.0, rel=0.02), 1.0)
    for _ in range(12):  # the machine's other work is over
        speeds.observe(["b"], np.array([0.5]), np.array([0.5]))
    assert speeds.slowness(["b"])[0] == pytest.approx(1.0, rel=0.15)


def test_a_few_short_clients_prove_little() -> None:
    speeds = Speeds()
    speeds.observe(["a"], np.array([0.001]), np.array([0.01]))
    assert speeds.slowness(["a"])[0] < 1.3


def test_clients_without_work_say_nothing_of_speed() -> None:
    speeds = Speeds()
    speeds.observe(["a", "a"], np.array([0.0, 1.0]), np.array([5.0, 1.0]))
    assert speeds.slowness(["a"])[0] == pytest.approx(1.0)
