"""A plan says what a server step is made of, before anything is trained."""

from __future__ import annotations

import numpy as np

from raysim.rounds.plan import Plan, Turns


def test_a_synchronous_plan_starts_from_the_version_before_it_and_draws_by_the_round() -> None:
    plan = Plan.synchronous(3, 12.5, np.array([1, 4]))
    assert (plan.step, plan.at) == (3, 12.5)
    assert (plan.base.tolist(), plan.into.tolist(), plan.turn.tolist()) == ([2, 2], [3, 3], [3, 3])
    assert plan.staleness.tolist() == [0, 0]
    assert len(plan.late) == len(plan.wasted) == 0


def test_turns_of_a_client_rise_and_are_the_round_where_no_two_are_dispatched_from_one_version() -> None:
    turns = Turns()
    assert [turns.next(5, base=v) for v in (0, 1, 2)] == [1, 2, 3]
    assert [turns.next(6, base=v) for v in (4, 4, 4, 5, 9)] == [5, 6, 7, 8, 10]
