"""Secure aggregation between actors: the bits of one process, also when an actor dies between two messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256

from raysim import Experiment
from raysim.aggregation import Question
from raysim.cluster.pool import ClientPool
from raysim.cluster.steps import ServerSteps, StepCall
from raysim.execution.scheduling.round_costs import RoundCosts

PROTECTIONS = {
    "secagg": "{name: secagg, threshold: 0.51, dropout: {upload: 0.1, unmask: 0.1}}",
    "secagg_plus": "{name: secagg_plus, neighbours: 2, bits: 16, clip: 1.0}",
    "bfv": "{name: bfv, share: 0.1}",
}

pytestmark = pytest.mark.ray


def experiment(folder: Path, name: str, *overrides: str) -> Experiment:
    return digits(folder, "rounds=2", "cohort=6", f"aggregation.protection={PROTECTIONS[name]}", *overrides)


def on_ray(folder: Path, name: str, actors: int) -> Experiment:
    return experiment(folder, name, "execution.executor=ray", f"execution.actors={actors}")


@pytest.fixture
def _shared_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round is cut over the actors."""
    monkeypatch.setattr(RoundCosts, "small", lambda self, work, *, among_small=False: False)


def test_small_rounds_that_an_actor_does_alone_have_the_bits_of_one_process(tmp_path: Path, ray_session: Any) -> None:
    assert final_sha256(on_ray(tmp_path, "secagg", 1)) == final_sha256(experiment(tmp_path, "secagg"))


@pytest.mark.usefixtures("_shared_rounds")
@pytest.mark.parametrize("stage", ["advertise", "share", "unmask"])
def test_an_actor_that_is_killed_between_messages_changes_no_bit(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    name = {"share": "secagg_plus"}.get(stage, "secagg")
    asked: list[tuple[int, str]] = []
    ask = ClientPool.ask

    def kill_and_ask(self: ClientPool, question: Question) -> list[bytes]:
        asked.append((question.round, question.stage))
        if asked[-1] == (2, stage):
            ray_session.kill(self.actors.roster.actor(0), no_restart=False)
        return ask(self, question)

    monkeypatch.setattr(ClientPool, "ask", kill_and_ask)
    assert final_sha256(on_ray(tmp_path, name, 2)) == final_sha256(experiment(tmp_path, name))
    assert asked == [(number, one) for number in (1, 2) for one in ("advertise", "share", "unmask")]


@pytest.mark.usefixtures("_shared_rounds")
def test_ciphertexts_of_two_actors_have_the_bits_of_one_process_and_the_aggregator_has_no_key(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    holders: list[Any] = []
    ask = ServerSteps.ask

    def see(
        self: ServerSteps, number: int, expected: Any, server: Any, sums: Any, opening: Any, *more: Any
    ) -> StepCall:
        assert opening.secret
        aggregator = self._aggregator
        self._aggregator = Watched(aggregator, holders)
        try:
            return ask(self, number, expected, server, sums, opening, *more)
        finally:
            self._aggregator = aggregator

    monkeypatch.setattr(ServerSteps, "ask", see)
    assert final_sha256(on_ray(tmp_path, "bfv", 2)) == final_sha256(experiment(tmp_path, "bfv"))
    assert [opening.secret for opening in holders] == [(), ()], "a round each"


class Watched:
    """An aggregator whose steps' openings are noted."""

    def __init__(self, actor: Any, openings: list[Any]) -> None:
        self._actor, self._openings = actor, openings

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._actor, name)
        if name != "apply":
            return method
        return Step(method, self._openings)


class Step:
    """A call of `apply`, whose fifth argument is noted."""

    def __init__(self, method: Any, openings: list[Any]) -> None:
        self._method, self._openings = method, openings

    def options(self, **options: Any) -> Step:
        return Step(self._method.options(**options), self._openings)

    def remote(self, *args: Any) -> Any:
        self._openings.append(args[4])
        return self._method.remote(*args)
