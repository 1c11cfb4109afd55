"""How long a call may take: fitted to finished clients, with a generous least."""

from __future__ import annotations

import numpy as np
import pytest

from raysim.cluster.deadlines import MARGIN, UNMEASURED, Deadlines
from raysim.config.faults import FaultsConfig
from raysim.rounds.lease import LeaseReport
from raysim.rounds.rows import client_batch


def report(steps: list[int], a_step: float) -> LeaseReport:
    """Clients that took so long a step."""
    count = len(steps)
    facts = client_batch(
        round=1,
        client=np.arange(count),
        samples=steps,
        steps=steps,
        weight=np.ones(count),
        loss=np.ones(count),
        seconds=a_step * np.array(steps),
        worker=np.zeros(count),
    )
    return LeaseReport(facts, np.arange(count, dtype=np.int32), 0, {}, 0)


def test_before_anything_is_measured_a_call_has_a_multiple_of_the_least() -> None:
    deadlines = Deadlines(FaultsConfig(least_deadline=5.0))
    assert deadlines.training(np.array([10])) == deadlines.of("evaluation") == UNMEASURED * 5.0


def test_a_deadline_is_a_multiple_of_what_finished_clients_lead_to_expect_and_never_below_the_least() -> None:
    deadlines = Deadlines(FaultsConfig(least_deadline=5.0))
    deadlines.saw_training(report([10, 20], a_step=0.1))
    assert deadlines.training(np.array([1])) == 5.0
    assert deadlines.training(np.array([100, 300])) == pytest.approx(MARGIN * 40.0, rel=1e-3)
    deadlines.saw("evaluation", 4.0, times=2)
    deadlines.saw("evaluation", 1.0, times=1)
    assert deadlines.of("evaluation", 3) == pytest.approx(MARGIN * 6.0)


def test_a_deadline_of_ones_own_is_taken_as_it_is() -> None:
    deadlines = Deadlines(FaultsConfig(deadline=2.5))
    deadlines.saw_training(report([10, 20], a_step=100.0))
    assert deadlines.training(np.array([100])) == deadlines.of("step") == 2.5
