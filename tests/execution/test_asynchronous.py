"""Rounds whose steps take in clients of several versions of the model: the plain loop's, and the same bits whatever
trains them together, before or again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation, ListedSpec
from timetables import Buffered

from raysim.aggregation import Discount, combine
from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.config.staleness import HingeStalenessConfig, PolynomialStalenessConfig
from raysim.errors import RunError
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.rounds.job import Job
from raysim.rounds.lease import Lease
from raysim.rounds.plan import Plan, Timetable
from raysim.rounds.task import RoundWork
from raysim.selection.cohort import draw_planned, draw_round
from raysim.selection.waves import planned_rounds
from raysim.training import EngineChoice

SIZES = [12, 30, 7, 18, 3]
FEDERATION = ListedFederation(SIZES, test=9)
VALUES: dict[str, Any] = {
    "cohort": 2,
    "data": {"partition": "natural"},
    "model": {"name": "softmax"},
    "client": {"batch_size": "full", "optimizer": {"lr": 0.3}},
}
ROUNDS = 9


class Run:
    """An executor, and where its timetable's rounds have got to."""

    def __init__(self, timetable: Timetable, **changed: Any) -> None:
        job = Job(Experiment.parse(VALUES | changed), ListedSpec(FEDERATION), EngineChoice("sequential"))
        self.executor, self.timetable = InProcessExecutor(job), timetable
        self.given = job.experiment, FEDERATION, self.executor.worker.trainer.work
        self.server, self.number = self.executor.first(), 0

    def works(self) -> Iterator[RoundWork]:
        return (one.work for one in planned_rounds(self.timetable, *self.given, after=self.number))

    def go(self, to: int) -> Run:
        for done in self.executor.rounds(islice(self.works(), to - self.number), self.server):
            self.server, self.number = done.server, done.facts.row.round
        return self

    @property
    def array(self) -> Float64:
        return np.array(self.executor.fetch(self.server), dtype=np.float64)

    @property
    def model(self) -> bytes:
        return self.array.tobytes()


@pytest.fixture(scope="module")
def expected() -> bytes:
    return Run(Buffered(5, 3, 7, cap=4)).go(ROUNDS).model


def test_a_step_adds_up_what_clients_learnt_from_the_versions_that_they_started_from() -> None:
    run, timetable = Run(Buffered(5, 3, 7, cap=4)), Buffered(5, 3, 7, cap=4)
    made = [run.array]
    shards = [FEDERATION.shard(client) for client in range(5)]
    layout = run.executor.worker._layout
    places = {one.name: (one.start, one.size) for one in layout.segments}
    assert sum(size for _, size in places.values()) == 15
    bias, weight = (slice(start, start + size) for start, size in (places[name] for name in sorted(places)))
    for plan in islice(timetable.plans(), ROUNDS):
        weights = np.array([SIZES[client] for client in plan.clients])
        update = np.zeros_like(made[0])
        for client, base, share in zip(plan.clients, plan.base, weights / weights.sum(), strict=True):
            x, y, model = np.asarray(shards[client].x, np.float64), np.asarray(shards[client].y), made[base]
            logits = x @ model[weight].reshape(3, 4).T + model[bias]
            chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            chance[np.arange(len(y)), y] -= 1
            grad = np.zeros_like(model)
            grad[weight], grad[bias] = (chance.T @ x / len(y)).reshape(-1), chance.mean(axis=0)
            update -= 0.3 * share * grad
        made.append(made[-1] + update)
    assert {int(s) for plan in islice(timetable.plans(), ROUNDS) for s in plan.staleness} > {0, 1, 2}
    np.testing.assert_allclose(run.go(ROUNDS).array, made[-1], atol=2e-6)


@pytest.mark.parametrize("saved", [1, 4, 7])
def test_a_resume_in_mid_buffer_comes_to_the_same_bits(saved: int, expected: bytes, tmp_path: Path) -> None:
    run = Run(Buffered(5, 3, 7, cap=4)).go(saved)
    work = next(run.works())
    assert set(run.server.older) == {task.round - 1 for task in work.in_flight}, "no version more than is needed"
    run.executor.save(str(tmp_path), run.server)
    after = Run(Buffered(5, 3, 7, cap=4))
    after.server, after.number = after.executor.load(str(tmp_path)), saved
    assert after.go(ROUNDS).model == expected


def test_older_models_of_another_size_in_a_checkpoint_are_refused(tmp_path: Path) -> None:
    run = Run(Buffered(5, 3, 7, cap=4)).go(4)
    server = replace(run.server, older={0: np.zeros(3, np.float32)})
    run.executor.save(str(tmp_path), server)
    with pytest.raises(RunError, match=r"older\.safetensors: not models of"):
        run.executor.load(str(tmp_path))


def test_leases_cut_anyhow_hold_for_each_step_the_same_sum() -> None:
    run = Run(Buffered(5, 3, 7, cap=4))
    task = next(run.works()).starting
    worker, model = run.executor.worker, run.server.model
    steps = sorted(set(task.into.tolist()))
    assert len(steps) > 1, "some wait"

    def sums(cuts: Sequence[Any]) -> dict[int, bytes]:
        found = [pair for cut in cuts for pair in worker.train_into(Lease.of(task, cut), model)]
        assert all(report.facts["round"].to_pylist() == [report.into] * len(report.positions) for _, report in found)
        whole = {into: combine([record for record, report in found if report.into == into]) for into in steps}
        assert all(total.round == into for into, total in whole.items())
        return {into: total.totals["update"].tobytes() + total.positions.tobytes() for into, total in whole.items()}

    count = len(task.clients)
    one_by_one = sums([[place] for place in reversed(range(count))])
    assert sums([range(count)]) == one_by_one == sums([range(1, count), [0]])


def test_one_client_in_flight_is_a_synchronous_round_of_one_client() -> None:
    one = Buffered(5, 1, 1, cap=3)
    run = Run(one).go(ROUNDS)
    other = Run(one)
    works = (RoundWork(draw_round(*other.given, plan.step, plan.clients)) for plan in one.plans())
    for done in other.executor.rounds(islice(works, ROUNDS), other.server):
        other.server = done.server
    assert other.model == run.model


def test_a_client_that_comes_twice_draws_other_batches() -> None:
    class Twice:
        cap = 1

        def __init__(self, second: int) -> None:
            self.turns = np.array([1, second])

        def plans(self, after: int = 0) -> Iterator[Plan]:
            for step in range(1, 9):
                clients, base = np.array([1, 1]), np.full(2, step - 1, np.int32)
                yield Plan(step, float(step), clients, base, base + 1, self.turns)

    models = [Run(Twice(second), client={"batch_size": 4, "steps": 1}).go(1).model for second in (2, 3)]
    assert models[0] != models[1]


def test_discounts_are_those_of_the_papers() -> None:
    old = [0, 1, 3, 4, 5, 24]
    half = Discount(PolynomialStalenessConfig(exponent=0.5))
    np.testing.assert_allclose([half.of(s) for s in old], [(1 + s) ** -0.5 for s in old])
    hinge = Discount(HingeStalenessConfig(a=10, b=4), mixing=0.6)
    np.testing.assert_allclose([hinge.of(s) for s in old], [0.6, 0.6, 0.6, 0.6, 0.6 / 11, 0.6 / 201])


DEVICES = {"name": "log_normal", "speed": 1.0}


def systems(**timetable: Any) -> dict[str, Any]:
    return {"fleet": DEVICES, "timetable": {"in_flight": 4, **timetable}}


def test_the_law_of_weights_discounts_what_is_stale() -> None:
    law = {"name": "law", "samples": 0.0, "staleness": 0.5}
    run = Run(Buffered(5, 3, 7, cap=4), aggregation={"weights": law}, systems=systems(name="fedbuff", buffer=3))
    plan = next(plan for plan in run.timetable.plans() if plan.staleness.any())
    expected = (1.0 + plan.staleness) ** -0.5
    np.testing.assert_allclose(draw_planned(*run.given, plan).weights, expected / expected.sum(), rtol=1e-12)
    assert run.go(4).model != Run(Buffered(5, 3, 7, cap=4)).go(4).model


def test_a_buffer_divides_by_its_updates_and_not_by_their_discounted_weights() -> None:
    plans = [Plan(1, 1.0, *versions([0], [0])), Plan(2, 2.0, *versions([2, 3], [0, 1]))]
    full, halved = (
        Run(Listed(plans, cap=1), systems=systems(name="fedbuff", buffer=2, staleness=law)).go(2)
        for law in ("constant", {"name": "polynomial", "exponent": 1.0})
    )
    first = Run(Listed(plans, cap=1)).go(1)
    new = Run(Listed([plans[0], Plan(2, 2.0, *versions([3], [1]))], cap=1), cohort=1).go(2)
    start, with_both, with_half, with_one = (run.array for run in (first, full, halved, new))
    share = SIZES[3] / (SIZES[2] + SIZES[3])
    stale = (with_both - start) - share * (with_one - start)
    np.testing.assert_allclose(with_half - start, share * (with_one - start) + stale / 2, atol=1e-6)


def test_fedasync_mixes_the_model_with_the_one_that_a_client_made_of_an_older_version() -> None:
    plans = [Plan(1, 1.0, *versions([0], [0])), Plan(2, 2.0, *versions([1], [0])), Plan(3, 3.0, *versions([2], [0]))]
    given = systems(name="fedasync", mixing=0.6, staleness={"name": "polynomial", "exponent": 0.5})
    run, found = Run(Listed(plans, cap=2), systems=given), []
    for step in (0, 1, 2, 3):
        found.append(run.go(step).array)
    alone = []
    for client in (0, 1, 2):
        one = Run(Listed([Plan(1, 1.0, *versions([client], [0]))], cap=1), cohort=1)
        alone.append(one.go(1).array)
    model = found[0]
    for step, made in enumerate(alone):
        alpha = 0.6 * (1 + step) ** -0.5
        model = (1 - alpha) * model + alpha * made
        np.testing.assert_allclose(found[step + 1], model, atol=1e-6)


def test_fedasync_with_one_client_in_flight_and_all_of_its_model_is_a_synchronous_round_of_one_client() -> None:
    one = Buffered(5, 1, 1, cap=3)
    mixed = Run(one, systems={"fleet": DEVICES, "timetable": {"name": "fedasync", "mixing": 1.0, "in_flight": 1}})
    assert mixed.go(ROUNDS).model == Run(one).go(ROUNDS).model


class Listed:
    """These plans, and nobody in the steps after them."""

    def __init__(self, plans: Sequence[Plan], cap: int) -> None:
        self.listed, self.cap = plans, cap

    def plans(self, after: int = 0) -> Iterator[Plan]:
        yield from self.listed[after:]
        for step in count(max(after, len(self.listed)) + 1):
            yield Plan(step, float(step), *versions([], []))


def versions(clients: list[int], base: list[int]) -> tuple[Any, ...]:
    """Clients, the versions that they start from, one step for all, and turns."""
    started = np.array(base, dtype=np.int32)
    return np.array(clients, np.int64), started, started + 1, np.array(base, np.int64) + 1
