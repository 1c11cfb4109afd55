"""What engines take: calls timed, and the seconds of a round from those of a step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysim.execution.preparation import engine_timing
from raysim.execution.preparation.engine_timing import Measured, _seconds

STEPS = st.lists(st.integers(0, 12), min_size=1, max_size=20).map(lambda steps: np.array(sorted(steps, reverse=True)))


@given(STEPS, st.integers(1, 25), st.lists(st.floats(1e-6, 1.0), min_size=4, max_size=4))
def test_the_seconds_of_a_round_are_those_of_a_plain_loop(steps: Any, rows: int, seconds: list[float]) -> None:
    ks, a_block = np.array([1, 4, 25]), seconds[3]
    expected, left, blocks = 0.0, steps.tolist(), -(-len(steps) // rows)
    for i in range(blocks):
        size = len(steps) * (i + 1) // blocks - len(steps) * i // blocks
        assert size <= rows
        block, left = left[:size], left[size:]
        expected += a_block
        for step in range(max(block)):
            active = sum(1 for count in block if count > step)
            expected += float(np.interp(active, ks, seconds[:3]))
    assert not left
    assert Measured(ks, np.array(seconds[:3]), a_block).round_seconds(steps, rows) == pytest.approx(expected)


@given(STEPS, st.lists(st.floats(1e-6, 1.0), min_size=6, max_size=6))
def test_the_best_number_of_rows_is_the_fastest(steps: Any, seconds: list[float]) -> None:
    ks = np.array([1, 2, 4, 8, 16])
    measured = Measured(ks, np.array(seconds[:5]), seconds[5])
    rows, together = measured.best(steps, None)
    assert rows in (2, 4, 8, 16)
    assert together == measured.round_seconds(steps, rows) == min(measured.round_seconds(steps, k) for k in ks[1:])
    assert measured.best(steps, 8) == (8, measured.round_seconds(steps, 8))


def test_rows_that_a_part_of_the_cohort_leaves_empty_are_there_for_all_of_it() -> None:
    measured = Measured(np.array([1, 2, 4, 8, 10]), np.ones(5), 1.0)
    assert measured.best(np.array([9, 7, 3, 2, 1]), None)[0] == 10


@pytest.mark.parametrize(("takes", "calls"), [([9.0, 0.5], 2), ([9.0, 0.05, 0.04, 0.03, 0.02], 5), ([9.0, 3e-4], 20)])
def test_a_long_call_is_timed_once_and_a_short_one_in_series(
    monkeypatch: pytest.MonkeyPatch, takes: list[float], calls: int
) -> None:
    """The first call, whatever it takes, is not timed."""
    ends = [0.0]
    monkeypatch.setattr(engine_timing, "time", SimpleNamespace(thread_time=lambda: ends[-1], perf_counter=None))
    coming = iter(takes)
    found = _seconds(lambda: ends.append(ends[-1] + next(coming, takes[-1])), torch.device("cpu"))
    assert found == pytest.approx(takes[-1])
    assert len(ends) == 1 + calls
