"""Timetables of rounds: who contributes, and when, against a plain loop over single clients."""

from __future__ import annotations

from itertools import islice
from typing import Any

import fleets
import numpy as np
import pytest

from raysim import keyed
from raysim.arrays import Int64
from raysim.systems import Fleet, Load, Rounds, TimedStep, VirtualClock, build_fleet, forecast, utilisation

POPULATION = 60


def cohorts(step: int) -> Int64:
    key = keyed.bits(5, keyed.Purpose.COHORT, step, np.arange(POPULATION))
    return np.sort(np.argsort(key, kind="stable")[:8])


def first(count: int, **options: Any) -> list[TimedStep]:
    fleet: Fleet = options.pop("fleet", None) or fleets.uneven(POPULATION, fleet={"latency": 0.125})
    load = options.pop("load", None) or Load(np.arange(POPULATION) % 7 + 2)
    return list(islice(Rounds(fleet, load, cohorts, **options).steps(), count))


def ends(fleet: Fleet, load: Load, step: int, began: float, client: int) -> float:
    return float(fleet.trips(np.array([client]), load, np.array([step]), began).ends[0])


def test_a_round_ends_with_its_last_client_and_the_next_one_begins_then() -> None:
    fleet, load = fleets.uneven(POPULATION), Load(np.arange(POPULATION) % 7 + 2)
    began = 0.0
    for step in first(20, fleet=fleet, load=load):
        plan = step.plan
        assert plan.clients.tolist() == cohorts(plan.step).tolist()
        assert plan.at == max(ends(fleet, load, plan.step, began, client) for client in plan.clients.tolist())
        assert (step.began, plan.turn.tolist(), plan.base.tolist()) == (began, [plan.step] * 8, [plan.step - 1] * 8)
        assert not len(plan.late)
        began = plan.at


def test_of_more_clients_than_needed_the_first_to_return_contribute() -> None:
    fleet, load = fleets.uneven(POPULATION), fleets.steps(POPULATION, 3)
    began = 0.0
    for step in first(20, fleet=fleet, load=load, needed=5):
        plan = step.plan
        of = {client: ends(fleet, load, plan.step, began, client) for client in cohorts(plan.step).tolist()}
        quickest = sorted(of, key=lambda client: of[client])[:5]
        assert plan.clients.tolist() == sorted(quickest)
        assert plan.at == max(of[client] for client in quickest)
        assert plan.late.tolist() == sorted(set(of) - set(quickest))
        assert np.allclose(plan.wasted, plan.at - began)
        began = plan.at


def test_ties_go_to_the_client_that_was_sent_first_in_a_drawn_order() -> None:
    fleet = fleets.uneven(POPULATION, sigma=0)
    for step in first(5, fleet=fleet, load=fleets.steps(POPULATION), needed=5):
        cohort = cohorts(step.plan.step)
        order = keyed.bits(0, keyed.Purpose.DISPATCH, step.plan.step, cohort)
        assert step.plan.clients.tolist() == np.sort(cohort[np.argsort(order)][:5]).tolist()


def test_clients_that_miss_a_deadline_are_lost() -> None:
    fleet, load = fleets.uneven(POPULATION), fleets.steps(POPULATION, 3)
    began = 0.0
    for step in first(30, fleet=fleet, load=load, deadline=4.0):
        plan = step.plan
        of = {client: ends(fleet, load, plan.step, began, client) for client in cohorts(plan.step).tolist()}
        in_time = [client for client, end in of.items() if end <= began + 4.0]
        assert plan.clients.tolist() == in_time
        assert plan.late.tolist() == [client for client in of if client not in in_time]
        assert plan.at == (max(of.values()) if len(in_time) == len(of) else began + 4.0)
        assert plan.steps is None
        began = plan.at


def test_a_deadline_that_all_meet_changes_nothing() -> None:
    for one, other in zip(first(15), first(15, deadline=1e6, partial=True), strict=True):
        assert one.plan.at == other.plan.at
        assert one.plan.clients.tolist() == other.plan.clients.tolist()


def test_late_clients_keep_the_steps_that_they_have_time_for() -> None:
    fleet = fleets.uneven(POPULATION, fleet={"latency": 0.25, "upload": 10.0})
    load = Load(np.arange(POPULATION) % 7 + 2, up=5)
    cut = 0
    for step in first(30, fleet=fleet, load=load, deadline=4.0, partial=True):
        plan = step.plan
        assert plan.steps is not None
        for client, steps in zip(plan.clients.tolist(), plan.steps.tolist(), strict=True):
            possible = int((4.0 - 0.5 - 0.5) * fleet.speed[client])
            assert steps == min(possible, load.work[client])
            cut += steps < load.work[client]
        for client in plan.late.tolist():
            assert (4.0 - 1.0) * fleet.speed[client] < 1
    assert cut > 20


def test_clients_that_drop_out_are_lost_and_cost_their_time() -> None:
    steps = first(40, fleet=fleets.uneven(POPULATION, dropout=0.25))
    lost = sum(len(step.plan.late) for step in steps)
    assert lost / (40 * 8) == pytest.approx(0.25, abs=0.1)
    assert all((step.plan.wasted > 0).all() for step in steps)
    assert all(len(step.plan.clients) + len(step.plan.late) == 8 for step in steps)


def test_clients_that_are_not_there_are_left_out_and_a_round_waits_for_the_first() -> None:
    fleet = fleets.uneven(POPULATION, availability={"name": "diurnal", "hours": 6, "spread": 0.5})
    assert fleet.windows is not None
    waited = False
    for step in first(40, fleet=fleet, load=fleets.steps(POPULATION, 3000)):
        cohort, began = cohorts(step.plan.step), step.began
        opens = fleet.windows.at(cohort, np.full(8, began))[0]
        start = max(began, float(opens.min()))
        waited |= start > began
        assert step.plan.clients.tolist() == cohort[opens <= start].tolist()
        assert step.plan.at >= start
    assert waited


def test_a_round_without_clients_takes_no_time() -> None:
    timetable = Rounds(fleets.uneven(4), fleets.steps(4), lambda step: np.arange(4 * (step % 2)))
    plans = list(islice(timetable.plans(), 3))
    assert [len(plan.clients) for plan in plans] == [4, 0, 4]
    assert plans[0].at == plans[1].at < plans[2].at


def test_a_timetable_of_rounds_goes_on_after_any_step() -> None:
    timetable = Rounds(fleets.uneven(POPULATION, dropout=0.2), fleets.steps(POPULATION), cohorts, deadline=2.0)
    whole = list(islice(timetable.plans(), 12))
    rest = list(islice(timetable.plans(5), 7))
    assert [(one.step, one.at, one.clients.tolist()) for one in whole[5:]] == [
        (one.step, one.at, one.clients.tolist()) for one in rest
    ]


def test_the_clock_goes_on_with_the_sums_that_it_had() -> None:
    fleet = fleets.uneven(POPULATION, costs={"joules_per_second": 2.0, "money_per_byte": 0.5})
    timetable = Rounds(fleet, Load(np.full(POPULATION, 3), down=8, up=4), cohorts, needed=5)
    clock = VirtualClock(timetable)
    found = [clock.next()[1] for _ in range(6)]
    assert VirtualClock(timetable, after=5).next()[1] == found[5]
    assert found[0]["virtual/money"] == 0.5 * (5 * (8 + 4) + 3 * 8)  # three received the model in vain
    assert set(found[0]) == {
        "virtual/seconds",
        "virtual/late",
        "virtual/utilisation",
        "virtual/joules",
        "virtual/money",
    }


def test_a_forecast_adds_up_the_steps() -> None:
    timetable = Rounds(fleets.uneven(POPULATION), fleets.steps(POPULATION, 3), cohorts, deadline=3.0)
    steps = list(islice(timetable.steps(), 25))
    found = forecast(timetable, 25, 0.5)
    assert found.seconds == steps[-1].plan.at
    assert found.trips == sum(len(step.plan.clients) for step in steps)
    assert found.late == 25 * 8 - found.trips
    assert found.utilisation == pytest.approx(utilisation(steps))
    taken = set(np.concatenate([step.plan.clients for step in steps]).tolist())
    gone = set(np.concatenate([step.plan.late for step in steps]).tolist())
    assert set(found.left_out) == gone - taken
    assert found.took_part == len(taken)


def test_a_synchronous_round_of_nvflares_edge_example_takes_what_its_slowest_device_does() -> None:
    """Published as 400 + 3/2 π^-1/2 4 + 5 s, the largest of three Gaussians; of 16 devices some five are slow."""
    lengths = []
    for seed in range(40):
        timetable = Rounds(build_fleet(fleets.EDGE, seed, 16), fleets.steps(16), lambda step: np.arange(16))
        lengths += [plan.at for plan in islice(timetable.plans(), 1)]
    assert np.mean(lengths) == pytest.approx(408.4, abs=4)
