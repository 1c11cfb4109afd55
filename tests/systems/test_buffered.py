"""Asynchronous timetables: what they plan, against a plain loop over events."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import fleets
import numpy as np
import pytest

from raysim import keyed
from raysim.config.systems import FedBuffConfig
from raysim.errors import ConfigError
from raysim.rounds.plan import Plan
from raysim.systems import Buffered


def first(timetable: Buffered, count: int, after: int = 0) -> list[Plan]:
    return list(islice(timetable.plans(after), count))


def values(plans: list[Plan]) -> list[tuple[object, ...]]:
    arrays = ("clients", "base", "into", "turn", "late", "wasted")
    return [(plan.step, plan.at, *(getattr(plan, name).tolist() for name in arrays)) for plan in plans]


@pytest.mark.parametrize(("buffer", "in_flight"), [(1, 1), (1, 5), (4, 4), (3, 11)])
def test_a_plan_is_what_a_plain_loop_over_arrivals_comes_to(buffer: int, in_flight: int) -> None:
    population = 10**6  # so many that no draw is out already
    fleet, load = fleets.uneven(population, fleet={"latency": 0.25, "deviation": 0.1}), fleets.steps(population, 3)
    plans = first(Buffered(fleet, load, seed=7, buffer=buffer, in_flight=in_flight), 30)
    drawn = keyed.bits(7, keyed.Purpose.DISPATCH, np.arange(1000), 0) % np.uint64(population)
    plain = fleets.plain_buffered(
        fleet, load, [int(one) for one in drawn], buffer=buffer, in_flight=in_flight, count=30
    )
    for plan, (at, updates) in zip(plans, plain, strict=True):
        assert plan.at == at
        found = zip(plan.clients.tolist(), plan.turn.tolist(), plan.base.tolist(), strict=True)
        assert list(found) == updates
        assert plan.into.tolist() == [plan.step] * buffer


@pytest.mark.parametrize(
    ("in_flight", "buffer", "mean"), [(30, 10, 2.900), (50, 10, 4.899), (10, 10, 0.900), (30, 1, 29.0)]
)
def test_mean_staleness_is_that_of_one_less_in_flight_a_step(in_flight: int, buffer: int, mean: float) -> None:
    timetable = Buffered(fleets.uneven(400), fleets.steps(400), 1, buffer, in_flight, cap=10_000)
    count = 3000 // buffer
    staleness = np.concatenate([plan.staleness for plan in first(timetable, count, after=count)])
    assert staleness.mean() == pytest.approx(mean, rel=0.06)


def test_a_timetable_goes_on_after_any_step_as_if_it_had_not_stopped() -> None:
    timetable = Buffered(fleets.uneven(60, dropout=0.2), fleets.steps(60), seed=3, buffer=4, in_flight=12, cap=2)
    assert values(first(timetable, 20)[8:]) == values(first(timetable, 12, after=8))


def test_no_client_is_out_twice_at_a_time_even_where_all_are_out() -> None:
    timetable = Buffered(fleets.uneven(5), fleets.steps(5), seed=0, buffer=1, in_flight=5)
    busy: dict[int, float] = {}
    for step in islice(timetable.steps(), 200):
        client, spent = int(step.plan.clients[0]), float(step.seconds[0])
        assert step.plan.at - spent >= busy.get(client, 0.0) - 1e-9
        busy[client] = step.plan.at


def test_a_client_never_has_the_same_turn_twice() -> None:
    plans = first(Buffered(fleets.uneven(8), fleets.steps(8), seed=0, buffer=3, in_flight=6), 200)
    seen = [(client, turn) for plan in plans for client, turn in zip(plan.clients, plan.turn, strict=True)]
    assert len(set(seen)) == len(seen)


def test_updates_beyond_the_cap_are_lost_and_their_seconds_wasted() -> None:
    timetable = Buffered(fleets.uneven(200), fleets.steps(200), seed=0, buffer=2, in_flight=20, cap=12)
    plans = first(timetable, 150)
    assert max(int(plan.staleness.max()) for plan in plans) <= 12
    assert sum(len(plan.late) for plan in plans) > 0
    assert all(len(plan.clients) == 2 and (plan.wasted > 0).all() for plan in plans)


def test_ties_are_broken_by_the_order_of_dispatch() -> None:
    timetable = Buffered(fleets.uneven(50, sigma=0.0), fleets.steps(50), seed=0, buffer=2, in_flight=4)
    plans = first(timetable, 4)
    assert [plan.at for plan in plans] == [1.0, 1.0, 2.0, 2.0]
    assert [sorted(plan.base.tolist()) for plan in plans] == [[0, 0], [0, 0], [0, 1], [1, 2]]


def test_clients_that_are_not_there_are_not_sent_out() -> None:
    fleet = fleets.uneven(100, sigma=0.0, availability={"name": "diurnal", "hours": 6})
    assert fleet.windows is not None
    timetable = Buffered(fleet, fleets.steps(100, 600), seed=0, buffer=1, in_flight=10)
    for step in islice(timetable.steps(), 100):
        began = np.array([step.plan.at - step.seconds[0]])
        assert fleet.windows.there(step.plan.clients, began).all()


def test_a_night_without_devices_passes() -> None:
    fleet = fleets.uneven(40, availability={"name": "diurnal", "hours": 1, "spread": 0})
    plans = first(Buffered(fleet, fleets.steps(40, 600), seed=0, buffer=4, in_flight=10), 40)
    gaps = np.diff([plan.at for plan in plans])
    assert gaps.max() > 22 * 3600


def test_a_timetable_in_which_nothing_ever_arrives_is_given_up() -> None:
    fleet = fleets.uneven(4, availability={"name": "diurnal", "hours": 1, "unfinished": "lost"})
    with pytest.raises(ConfigError, match="no update of the last"):
        first(Buffered(fleet, fleets.steps(4, 10**6), seed=0, buffer=1, in_flight=1), 1)


def test_a_buffer_above_the_number_in_flight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"buffer \(11\) is above in_flight \(10\)"):
        FedBuffConfig(buffer=11, in_flight=10)


def test_memory_does_not_grow_with_steps() -> None:
    timetable = Buffered(fleets.uneven(50), fleets.steps(50), seed=0, buffer=1, in_flight=10)
    tracemalloc.start()
    try:
        plans = timetable.plans()
        next(plans)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4000):
            next(plans)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1 << 19
