"""Small rounds on a real Ray: several in a call and two calls in flight come to what one round after the other does."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256, sha256

from raysim import Experiment, Simulation, verify
from raysim.cluster.batches import Batches
from raysim.cluster.pool import ClientPool
from raysim.errors import ClientError, RunError, UserCodeError
from raysim.execution.scheduling import round_costs
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.tracking.chain import read_chain

pytestmark = pytest.mark.ray

EIGHT = ["rounds=8", "tracking.checkpoint_every=0", "algorithm.server_momentum=0.9"]
"""Rounds 1–3, 4–6 and 7–8 go into a call each."""
SHARED = "execution.rounds_ahead=0"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Every round counts as small, three go into a call; the rounds of every call that is made."""
    made: list[list[int]] = []
    send = Batches._send

    def noted(self: Batches, worker: int, works: list[Any], start: Any) -> Any:
        made.append([work.task.round for work in works])
        return send(self, worker, works, start)

    monkeypatch.setattr(Batches, "_send", noted)
    monkeypatch.setattr(RoundCosts, "measured", True)
    monkeypatch.setattr(RoundCosts, "small", lambda self, work, *, among_small=False: True)
    monkeypatch.setattr(round_costs, "BATCH_ROUNDS", 3)
    monkeypatch.setattr(round_costs, "BATCH_SECONDS", 1e9)
    return made


def on_ray(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(tmp_path, "execution.executor=ray", "execution.actors=2", *overrides)


def test_every_round_of_a_call_has_the_model_that_it_has_in_process(
    tmp_path: Path, ray_session: Any, calls: list[list[int]]
) -> None:
    with Simulation(digits(tmp_path, *EIGHT)) as simulation:
        expected = [(r.number, r.metrics, sha256(simulation.model())) for r in simulation]
    for actors in (1, 2):
        calls.clear()
        with Simulation(on_ray(tmp_path, *EIGHT, f"execution.actors={actors}")) as simulation:
            assert [(r.number, r.metrics, sha256(simulation.model())) for r in simulation] == expected
        assert calls == [[1, 2, 3], [4, 5, 6], [7, 8]]
    calls.clear()
    assert final_sha256(on_ray(tmp_path, *EIGHT, "execution.rounds_ahead=0")) == expected[-1][2]
    assert not calls
    assert final_sha256(on_ray(tmp_path, *EIGHT, "tracking.checkpoint_every=2")) == expected[-1][2]
    assert calls == [[1, 2], [3, 4], [5, 6], [7, 8]], "a call ends with a checkpoint's round"


def test_a_run_on_ray_has_the_chain_of_one_in_process_and_is_verified_there(
    tmp_path: Path, ray_session: Any, calls: list[list[int]]
) -> None:
    chains = []
    for experiment in (digits(tmp_path, *EIGHT), on_ray(tmp_path, *EIGHT), on_ray(tmp_path, *EIGHT, SHARED)):
        with Simulation(experiment) as simulation:
            simulation.run()
        chains.append([one.link for one in read_chain(simulation.directory / "chain.jsonl").links])
        assert verify(simulation.directory, rounds=[5, 8]).same
    assert calls == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert chains == [chains[0]] * 3


def test_the_first_round_of_a_call_says_how_many_came_with_it(
    tmp_path: Path, ray_session: Any, calls: list[list[int]]
) -> None:
    with Simulation(on_ray(tmp_path, *EIGHT)) as simulation:
        arrived = [
            done.arrived for done in simulation._executor.rounds(simulation._loop.works(), simulation._loop.server)
        ]
    assert arrived == [3, 0, 0, 3, 0, 0, 2, 0]


def test_a_run_that_is_left_in_the_middle_of_a_call_goes_on_there(
    tmp_path: Path, ray_session: Any, calls: list[list[int]]
) -> None:
    expected = final_sha256(digits(tmp_path, *EIGHT))
    with Simulation(on_ray(tmp_path, *EIGHT)) as simulation:
        next(iter(simulation))
        for committed in simulation:  # paused after round 1, and iterated again
            if committed.number == 5:
                break
        assert calls[:2] == [[1, 2, 3], [4, 5, 6]]
    with Simulation.resume(simulation.directory, overrides=["execution.executor=inprocess"]) as resumed:
        assert resumed.number == 5
        resumed.run()
        assert sha256(resumed.model()) == expected


def test_an_actor_killed_with_two_calls_in_flight_changes_nothing(
    tmp_path: Path, ray_session: Any, calls: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts, killed = Batches._facts, []

    def kill_and_wait(self: Batches, batch: Any, limit: float) -> Any:
        if not killed:
            pool: ClientPool = self._pool
            killed.append(1)
            ray_session.kill(pool.actors.roster.actor(0), no_restart=False)
        return facts(self, batch, limit)

    monkeypatch.setattr(Batches, "_facts", kill_and_wait)
    assert final_sha256(on_ray(tmp_path, *EIGHT)) == final_sha256(digits(tmp_path, *EIGHT))
    assert killed
    assert calls[:4] == [[1, 2, 3], [4, 5, 6], [1, 2, 3], [4, 5, 6]]
    killed.clear()
    with (
        pytest.raises(RunError, match=r"rounds 1 to 3 were lost 1 times; their actor died each time"),
        Simulation(on_ray(tmp_path, *EIGHT, "execution.max_retries=0")) as simulation,
    ):
        simulation.run()


def test_a_stop_in_the_middle_of_a_call_leaves_that_rounds_model(
    tmp_path: Path, ray_session: Any, calls: list[list[int]]
) -> None:
    with Simulation(digits(tmp_path, *EIGHT)) as simulation:
        losses = [(r.metrics["train/loss"], sha256(simulation.model())) for r in simulation]
    assert losses[1][0] < losses[0][0]
    stop = f"stop={{metric: train/loss, target: {losses[1][0]!r}}}"
    with Simulation(on_ray(tmp_path, *EIGHT, stop)) as simulation:
        assert simulation.run().rounds == 2
        assert sha256(simulation.model()) == losses[1][1]


def test_within_a_call_bad_clients_are_left_out_empty_cohorts_pass_and_errors_come_after_the_rounds_before(
    tmp_path: Path, ray_session: Any, calls: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rough.py").write_text(
        "from raysim.algorithms import Algorithm\n"
        "class Rough(Algorithm):\n"
        "    paper = 'none'\n"
        "    def send(self, c):\n"
        "        update = c.rows - c.broadcast\n"
        "        update[[client == 2 for client in c.clients.tolist()], 0] = float('nan')\n"
        "        return {'update': update}\n"
        "class Failing(Rough):\n"
        "    def correct(self, grad, weights, b):\n"
        "        if b.setting.round == 5:\n"
        "            raise ValueError('no such thing')\n"
    )
    monkeypatch.chdir(tmp_path)
    rough = [*EIGHT[:2], "algorithm=rough:Rough", "selection=poisson", "cohort=2", "seed=5"]
    seen = []
    for experiment in (digits(tmp_path, *rough), on_ray(tmp_path, *rough)):
        with Simulation(experiment) as simulation:
            seen.append([(r.row.cohort, r.row.dropped, r.metrics, sha256(simulation.model())) for r in simulation])
    assert seen[0] == seen[1]
    cohorts, dropped, *_ = zip(*seen[0], strict=True)
    assert 0 in cohorts
    assert sum(dropped) > 0
    calls.clear()
    with (
        pytest.raises(ClientError, match=r"client \d, round 5: ValueError: no such thing"),
        Simulation(on_ray(tmp_path, *EIGHT[:2], "algorithm=rough:Failing", "cohort=1.0")) as simulation,
    ):
        simulation.run()
    assert simulation.number == 4
    assert calls == [[1, 2, 3], [4, 5, 6], [7, 8], [5, 6, 7], [8]]


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Of every call, the other actor that evaluates; it evaluates all ranges but the first."""
    others: list[int | None] = []
    measured = Batches._measured

    def noted(self: Batches, batch: Any, limit: float) -> Any:
        others.append(None if batch.measured is None else self._other)
        return measured(self, batch, limit)

    monkeypatch.setattr(Batches, "_measured", noted)
    monkeypatch.setattr(RoundCosts, "own_ranges", lambda self, work: min(1, len(work.ranges)))
    return others


EVALUATED = [*EIGHT, "evaluation.batch_size=100", "evaluation.every=2", "data.holdout=0.2"]


def test_another_actor_evaluates_what_a_call_leaves_behind(
    tmp_path: Path, ray_session: Any, calls: list[list[int]], beside: list[int | None]
) -> None:
    with Simulation(digits(tmp_path, *EVALUATED)) as simulation:
        expected = [(r.number, r.metrics) for r in simulation]
    assert not beside
    with Simulation(on_ray(tmp_path, *EVALUATED)) as simulation:
        found = [(r.number, r.metrics) for r in simulation]
        idle = simulation._executor._pool.actors.idle
    assert found == expected
    assert beside == [1, 1, 1]
    assert idle == {0, 1}
    assert calls == [[1, 2, 3], [4, 5, 6], [7, 8]]


def test_the_actor_that_evaluates_dies_and_nothing_changes(
    tmp_path: Path,
    ray_session: Any,
    calls: list[list[int]],
    beside: list[int | None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    measured, died = Batches._measured, []

    def die_and_wait(self: Batches, batch: Any, limit: float) -> Any:
        if not died:
            assert self._other is not None
            died.append(self._other)
            actor = self._pool.actors.roster.actor(self._other)
            batch = replace(batch, measured=actor.__ray_call__.remote(lambda actor: os._exit(1)))
        return measured(self, batch, limit)

    monkeypatch.setattr(Batches, "_measured", die_and_wait)
    with Simulation(digits(tmp_path, *EVALUATED)) as simulation:
        expected = [(r.number, r.metrics) for r in simulation]
    with Simulation(on_ray(tmp_path, *EVALUATED)) as simulation:
        assert [(r.number, r.metrics) for r in simulation] == expected
    assert died == [1]
    assert "actor 1 with rounds 1 to 3: the actor died; made again" in capsys.readouterr().err
    assert calls == [[1, 2, 3], [4, 5, 6], [7, 8]] * 2


def test_a_metric_that_fails_beside_comes_after_the_rounds_before(
    tmp_path: Path, ray_session: Any, calls: list[list[int]], beside: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RoundCosts, "own_ranges", lambda self, work: 0)
    every = [*EIGHT, "evaluation.batch_size=2000", "evaluation.sets=[test]"]
    with Simulation(digits(tmp_path, *every)) as simulation:
        losses = [r.metrics["test/loss"] for r in simulation]
    assert min(losses[:4]) > losses[4]
    (tmp_path / "choosy.py").write_text(
        "from raysim.training.metrics import MeanMetric\n"
        "class Choosy(MeanMetric):\n"
        "    name, higher_is_better = 'choosy', True\n"
        "    def measure(self, output, target, losses):\n"
        f"        if losses.mean() < {(losses[4] + min(losses[:4])) / 2}:\n"
        "            raise ValueError('such a small loss')\n"
        "        return losses\n"
    )
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(UserCodeError, match=r"round 5.*such a small loss"),
        Simulation(on_ray(tmp_path, *every, "evaluation.metrics=[choosy:Choosy]")) as simulation,
    ):
        simulation.run()
    assert simulation.number == 4
