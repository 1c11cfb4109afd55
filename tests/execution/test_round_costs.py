"""Whether a round is shared: predictions that learn from what rounds took, also where the model of costs is wrong."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from raysim.execution import RoundFacts, RoundTask, RoundWork
from raysim.execution.round_costs import BATCH_SECONDS, RoundCosts
from raysim.tracking import RoundRow
from raysim.tracking.rows import client_batch

STEPS = np.array([30, 5, 3, 2])
WORK = RoundWork(RoundTask(7, 0.1, np.arange(4), np.full(4, 0.25), STEPS), (), kept=False)


def facts(seconds: Sequence[float]) -> RoundFacts:
    """A round of clients that took so long each."""
    clients = client_batch(
        round=1,
        client=np.arange(4),
        samples=10 * STEPS,
        steps=STEPS,
        weight=np.full(4, 0.25),
        loss=np.ones(4),
        seconds=seconds,
        worker=np.zeros(4),
    )
    row = RoundRow(1, 4, 4, 0, 0, 40, 40, 0, 0, 0.1, seconds={"reduce": 0.0, "apply": 0.0, "evaluate": 0.0})
    return RoundFacts(row, clients, ())


def after(*intervals: float, seconds: Sequence[float] = STEPS * 1e-3, workers: int = 2) -> RoundCosts:
    """What is known after shared rounds that came so long after the one before."""
    costs = RoundCosts(workers)
    costs.step = 0.0
    for interval in (None, *intervals):
        costs.saw_shared(facts(seconds).clients, 0, interval)
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
    few = RoundWork(RoundTask(8, 0.1, np.arange(1), np.ones(1), STEPS[3:]), (), kept=False)
    assert costs.shared(few) == 0.0


def test_a_round_that_is_found_faster_alone_stays_there_and_one_that_is_not_comes_back() -> None:
    costs = after(*[0.05] * 5)
    assert costs.small(WORK), "worth a trial"
    costs.saw_alone(facts(STEPS * 0.5e-3), 0)
    assert costs.small(WORK, among_small=True)
    costs = after(*[0.025] * 5)
    assert costs.small(WORK), "worth a trial"
    for _ in range(3):
        costs.saw_alone(facts(STEPS * 1e-3), 0)
    assert not costs.small(WORK, among_small=True)


def test_a_long_round_is_shared() -> None:
    seconds = STEPS / STEPS.sum() * 2 * BATCH_SECONDS
    assert not after(*[10.0] * 5, seconds=seconds).small(WORK)
