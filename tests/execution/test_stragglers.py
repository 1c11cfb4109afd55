"""Clients that do part of a round's work: keyed, of the stated share, kept or left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plain_federation import Run, experiment_of

from raysim.errors import ConfigError
from raysim.rounds.task import RoundTask, RoundWork

SIZES = [20] * 30
LATE = "client.stragglers.share=0.9"


def tasks_of(*overrides: str, rounds: int = 20) -> tuple[Run, list[RoundTask]]:
    run = Run(experiment_of("fedavg", "cohort=10", "client.epochs=5", *overrides), sizes=SIZES)
    return run, [run.task(number) for number in range(1, rounds + 1)]


def test_so_many_of_each_cohort_do_some_of_their_epochs_and_not_all() -> None:
    _, tasks = tasks_of(LATE)
    epochs = np.array([task.steps // 4 for task in tasks])
    assert ((epochs == 5).sum(axis=1) == 1).all()
    assert set(np.unique(epochs).tolist()) == {1, 2, 3, 4, 5}
    assert all((task.steps % 4 == 0).all() for task in tasks)
    assert len({tuple(task.clients[task.steps == 20].tolist()) for task in tasks}) > 5  # drawn anew in every round


def test_stragglers_finish_what_they_do_at_a_batch() -> None:
    run = Run(experiment_of("apfl", "cohort=10", "client.epochs=5", LATE), sizes=SIZES)
    steps = np.array([run.task(number).steps for number in range(1, 21)])
    assert set(np.unique(steps // 8).tolist()) == {1, 2, 3, 4, 5}
    assert (steps % 8 == 0).all()


def test_who_straggles_is_a_function_of_the_seed() -> None:
    def steps(*overrides: str) -> Any:
        return [task.steps.tolist() for task in tasks_of(LATE, *overrides)[1]]

    assert steps() == steps()
    assert steps() != steps("seed=4")


def test_stragglers_that_are_not_kept_are_no_part_of_the_round() -> None:
    _, whole = tasks_of()
    run, tasks = tasks_of(LATE, "client.stragglers.keep=false")
    for task, full in zip(tasks, whole, strict=True):
        assert len(task.clients) == 1
        assert task.clients[0] in full.clients
        assert task.weights.tolist() == [1.0]
        assert task.participation == pytest.approx(1 / 30)
    assert np.isfinite(run.rounds(2)).all()


def test_a_round_of_stragglers_alone_changes_nothing() -> None:
    run, _ = tasks_of("client.stragglers={share: 1.0, keep: false}")
    before = run.model
    np.testing.assert_array_equal(run.rounds(2), before)


def test_the_steps_that_were_drawn_are_those_that_are_done() -> None:
    for rows in (None, 4):
        run = Run(experiment_of("fedavg", "cohort=10", "client.epochs=5", LATE), sizes=SIZES, rows=rows)
        task = run.task(1)
        (done,) = run.executor.rounds(iter([RoundWork(task)]), run.handle)
        assert done.facts.clients["steps"].to_pylist() == task.steps.tolist()
        assert done.facts.row.steps == task.steps.sum()


def test_steps_are_cut_where_steps_are_what_is_configured() -> None:
    _, tasks = tasks_of("client.steps=7", "client.stragglers.share=0.5")
    steps = np.array([task.steps for task in tasks])
    assert ((steps == 7).sum(axis=1) == 5).all()
    assert set(np.unique(steps).tolist()) == {1, 2, 3, 4, 5, 6, 7}


def test_nobody_can_do_part_of_a_single_epoch() -> None:
    with pytest.raises(ConfigError, match=r"client.stragglers: .* set client.epochs to 2 or more"):
        tasks_of("client.epochs=1", LATE)
    tasks_of("client.epochs=1", LATE, "client.stragglers.keep=false")
