"""Whether a round is shared: predictions that learn from what rounds took, also where the model of costs is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.rounds.ranges import ServerRange
from raysim.rounds.rows import client_batch
from raysim.rounds.task import RoundTask, RoundWork

STEPS = np.array([30, 5, 3, 2])
WORK = RoundWork(RoundTask.synchronous(7, 0.1, np.arange(4), np.full(4, 0.25), STEPS), (), kept=False)


def after(*intervals: float) -> RoundCosts:
    """What two workers are known to take after shared rounds that came so long after the one before."""
    costs, ones = RoundCosts(2), np.ones(4)
    clients = client_batch(
        round=1,
        client=np.arange(4),
        samples=10 * STEPS,
        steps=STEPS,
        weight=ones / 4,
        loss=ones,
        seconds=STEPS * 1e-3,
        worker=0 * STEPS,
    )
    for interval in (None, *intervals):
        costs.saw_shared(clients, 0, interval)
    return costs


def test_nothing_is_believed_before_the_first_rounds_are_outvoted() -> None:
    assert not after(*[0.5] * 4).measured
    costs = after(0.5, 0.5, 0.031, 0.031, 0.031)
    assert costs.measured
    assert costs.shared(WORK) == pytest.approx(0.031)


@pytest.mark.parametrize("took", [0.011, 0.03, 0.2])
def test_a_shared_round_is_predicted_to_take_what_such_rounds_took(took: float) -> None:
    # The longest client alone is predicted to take 30 ms. Among others, or with messages on the way, it is not so.
    assert after(*[took] * 5).shared(WORK) == pytest.approx(took)


def test_a_prediction_is_never_below_nothing() -> None:
    costs = after(*[0.001] * 5)
    few = RoundWork(RoundTask.synchronous(8, 0.1, np.arange(1), np.ones(1), STEPS[3:]), (), kept=False)
    assert costs.shared(few) == 0.0


@pytest.mark.parametrize(
    ("ranges", "own", "alone"),
    [(0, 0, 0.0415), (30, 0, 0.0415), (41, 0, 0.0415), (60, 9, 0.051), (100, 29, 0.071)],
)
def test_two_workers_split_a_small_rounds_evaluation_so_that_both_take_about_as_long(
    ranges: int, own: int, alone: float
) -> None:
    costs = after(*[0.04] * 5)  # its steps take 40 ms, the server's 1.5
    costs.evaluation, costs.step = 1e-3, 1.5e-3
    work = RoundWork(WORK.task, tuple(ServerRange("test", i, i + 1) for i in range(ranges)))
    assert costs.own_ranges(work) == ranges, "nobody evaluates beside"
    assert costs.alone(work) == pytest.approx(0.0415 + 1e-3 * ranges)
    costs.beside = True
    assert costs.own_ranges(work) == own
    assert costs.alone(work) == pytest.approx(alone)
