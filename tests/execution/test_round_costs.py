"""Whether a round is shared: predictions that learn from what rounds took, also where the model of costs is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from raysim.execution.scheduling.round_costs import RoundCosts
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
