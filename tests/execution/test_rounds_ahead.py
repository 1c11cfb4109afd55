"""Working ahead without Ray: how far, which rounds are small, and what a call with several of them does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from listed_federation import ListedFederation, ListedSpec

from raysim.config import Experiment
from raysim.errors import ClientError, RunError
from raysim.execution.clients.worker import ClientWorker
from raysim.execution.inprocess.whole_round import whole_round, whole_rounds
from raysim.execution.scheduling import round_costs as costs_of_rounds
from raysim.execution.scheduling.round_costs import RoundCosts, rounds_ahead
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.execution.server.server import Server
from raysim.rounds.job import Job
from raysim.rounds.ranges import ServerRange
from raysim.rounds.results import RoundFacts, ServerHandle
from raysim.rounds.rows import RoundRow, client_batch
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection.cohort import draw_round
from raysim.training import EngineChoice


def work(number: int, steps: Sequence[int] = (5, 5), *, kept: bool = False) -> RoundWork:
    count = len(steps)
    return RoundWork(
        RoundTask.synchronous(number, 0.1, np.arange(count), np.ones(count) / count, np.array(steps)),
        (),
        kept,
    )


def works(count: int, **more: Any) -> Iterator[RoundWork]:
    return (work(number, **more) for number in range(1, count + 1))


def clients(seconds_a_step: float, steps: Sequence[int] = (5, 10)) -> Any:
    count = len(steps)
    return client_batch(
        round=1,
        client=np.arange(count),
        samples=np.array(steps),
        steps=np.array(steps),
        weight=np.ones(count),
        loss=np.ones(count),
        seconds=seconds_a_step * np.array(steps),
        worker=np.zeros(count),
    )


def measured(workers: int, *, a_step: float, overhead: float) -> RoundCosts:
    """Costs after six shared rounds without evaluation, of clients with 5 and 10 steps."""
    costs = RoundCosts(workers)
    interval = max(10, 15 / workers) * a_step + costs.step + overhead
    for since in (None, *[interval] * 5):
        costs.saw_shared(clients(a_step), 0, since)
    return costs


def alone(seconds_a_step: float) -> RoundFacts:
    row = RoundRow(1, 2, 2, 0, 0, 15, 15, 0, 0, 0.1, {"reduce": 1e-4, "apply": 2e-4, "evaluate": 0.0})
    return RoundFacts(row, clients(seconds_a_step), ())


def test_works_are_taken_no_further_ahead_than_allowed() -> None:
    upcoming = Upcoming(works(9), ahead=2)
    taken = []
    while (found := upcoming.peek()) is not None:
        assert upcoming.peek() is found
        taken.append(upcoming.take().task.round)
    assert taken == [1, 2, 3]
    upcoming.finished()
    assert upcoming.peek() is not None
    assert upcoming.take().task.round == 4
    assert upcoming.peek() is None


def test_without_working_ahead_a_round_is_finished_before_the_next_is_drawn() -> None:
    drawn = []

    def drawing() -> Iterator[RoundWork]:
        for one in works(2):
            drawn.append(one.task.round)
            yield one

    upcoming = Upcoming(drawing(), ahead=0)
    assert upcoming.peek() is not None
    upcoming.take()
    assert upcoming.peek() is None
    assert drawn == [1]


def test_works_that_are_put_back_come_again_in_their_order() -> None:
    upcoming = Upcoming(works(4), ahead=9)
    taken = []
    for _ in range(3):
        upcoming.peek()
        taken.append(upcoming.take())
    upcoming.put_back(taken[1:])
    again = []
    while upcoming.peek() is not None:
        again.append(upcoming.take().task.round)
    assert again == [2, 3, 4]


def test_an_error_of_the_stream_waits_for_the_rounds_in_front_of_it() -> None:
    def failing() -> Iterator[RoundWork]:
        yield work(1)
        raise RunError("round 2: no weights")

    upcoming = Upcoming(failing(), ahead=5)
    upcoming.peek()
    upcoming.take()
    assert upcoming.peek() is None
    upcoming.finished()
    with pytest.raises(RunError, match="round 2: no weights"):
        upcoming.peek()


def test_a_round_is_small_where_sharing_costs_more_than_it_saves() -> None:
    # 10 steps of 1 ms: 10 ms on one worker, 5 ms and what sharing costs on two
    for overhead, small in ((0.001, False), (0.012, True)):
        costs = measured(2, a_step=1e-3, overhead=overhead)
        costs.saw_alone(alone(1e-3), 0)
        assert costs.measured
        assert costs.small(work(1)) is small
    assert not measured(2, a_step=0.1, overhead=10.0).small(work(1)), "a second is no small round, whatever else costs"
    assert measured(1, a_step=1e-3, overhead=0.0).small(work(1)), "a single worker gains nothing by sharing"


def test_one_worker_is_tried_before_it_is_believed_to_be_slower() -> None:
    costs = measured(2, a_step=1e-3, overhead=0.001)
    assert costs.small(work(1)), "10 ms against 6: two workers on the same cores may have slowed each other down"
    costs.saw_alone(alone(1e-3), 0)
    assert not costs.small(work(1))
    assert costs.small(work(1), among_small=True), "4 ms are less than it costs to leave off and come back"
    costs = measured(2, a_step=1e-3, overhead=0.001)
    costs.saw_alone(alone(0.5e-3), 0)
    assert costs.small(work(1)), "the trial took 5 ms"


def test_a_call_ends_with_what_is_kept_and_is_bounded_in_rounds_seconds_and_bytes() -> None:
    costs = measured(1, a_step=1e-3, overhead=0.0)

    def rounds(stream: Iterator[RoundWork], columns: int = 10) -> list[int]:
        return [one.task.round for one in costs.cut(Upcoming(stream, ahead=1000), columns)]

    assert rounds(iter([work(1), work(2, kept=True), work(3)])) == [1, 2]
    assert rounds(iter([work(1), work(2, steps=(500, 500)), work(3)])) == [1], "the second is not small"
    assert rounds(iter([work(1, steps=(500, 500))])) == []
    assert len(rounds(works(500))) == pytest.approx(costs_of_rounds.BATCH_SECONDS / 0.0103, abs=1)
    assert len(rounds(works(500, steps=(0, 0)))) == costs_of_rounds.BATCH_ROUNDS
    assert len(rounds(works(500), columns=200_000)) == 4
    assert len(rounds(works(500), columns=10**9)) == 1


def test_the_configuration_says_how_far_ahead() -> None:
    def of(value: Any) -> int:
        return rounds_ahead(Experiment.parse({"execution": {"rounds_ahead": value}}))

    assert (of(0), of(7)) == (0, 7)
    assert of("auto") > 2 * costs_of_rounds.BATCH_ROUNDS


@pytest.fixture
def parts() -> tuple[ClientWorker, Server, list[RoundWork]]:
    federation = ListedFederation([12, 30, 7, 18], test=9)
    values = {"cohort": 3, "data": {"partition": "natural"}, "model": {"name": "mlp", "hidden": [6]}}
    job = Job(
        Experiment.parse(values | {"client": {"batch_size": 5}}), ListedSpec(federation), EngineChoice("sequential")
    )
    worker = ClientWorker(job, 0)
    tasks = [draw_round(job.experiment, federation, worker.trainer.work, number) for number in (1, 2, 3)]
    return worker, Server(job), [RoundWork(task, (ServerRange("test", 0, 9),)) for task in tasks]


def test_several_rounds_in_a_call_are_those_rounds_one_by_one(
    parts: tuple[ClientWorker, Server, list[RoundWork]],
) -> None:
    worker, server, rounds = parts
    handle = ServerHandle(*server.first())
    facts, handles = whole_rounds(worker, server, rounds, handle)
    assert [one.row.round for one in facts] == [1, 2, 3]
    for a_round, fact, after in zip(rounds, facts, handles, strict=True):
        expected, handle = whole_round(worker, server, a_round, handle)
        np.testing.assert_array_equal(after.model, handle.model)
        assert fact.row.metrics == expected.row.metrics
        assert fact.clients["client"].to_pylist() == a_round.task.clients.tolist()
        assert len(fact.evaluated) == 1


def test_a_call_stops_in_front_of_a_round_that_fails_and_raises_only_if_that_is_its_first(
    parts: tuple[ClientWorker, Server, list[RoundWork]], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, server, rounds = parts
    train = worker.train_into

    def failing(lease: Any, model: Any, *beside: Any) -> Any:
        if lease.round == 2:
            raise ClientError("client 1, round 2: ValueError: no")
        return train(lease, model, *beside)

    monkeypatch.setattr(worker, "train_into", failing)
    facts, handles = whole_rounds(worker, server, rounds, ServerHandle(*server.first()))
    assert [one.row.round for one in facts] == [1]
    with pytest.raises(ClientError, match="round 2"):
        whole_rounds(worker, server, rounds[1:], handles[-1])
