"""What a run tells Ray's metrics adds up to what it did, and costs next to nothing."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from federations import digits
from synthetic_rounds import facts_of

from raysim import Simulation
from raysim.cluster import metrics
from raysim.cluster.metrics import COUNTERS, GAUGES, RunMetrics, run_metrics

pytest.importorskip("ray")


class Told:
    """Stands for Ray's counters and gauges: values by name and tags."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sums: Counter[tuple[str, ...]] = Counter()
        self.last: dict[tuple[str, ...], float] = {}
        self.messages = 0
        told = self

        class Instrument:
            def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
                assert description
                self.name, self.keys = name, tag_keys

            def key(self, tags: dict[str, str]) -> tuple[str, ...]:
                assert set(tags) == set(self.keys)
                told.messages += 1
                return (self.name, *(tags[key] for key in self.keys))

            def inc(self, value: float, tags: dict[str, str]) -> None:
                assert value > 0
                told.sums[self.key(tags)] += value

            def set(self, value: float, tags: dict[str, str]) -> None:
                told.last[self.key(tags)] = value

        monkeypatch.setattr("ray.util.metrics.Counter", Instrument)
        monkeypatch.setattr("ray.util.metrics.Gauge", Instrument)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def test_rounds_add_up_by_run_and_node(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "INTERVAL", 1e9)
    run = RunMetrics("first", "head", {0: "a", 1: "b", 2: "b"}.__getitem__)
    run.saw(facts_of(1, workers=[0, 1, 1, 2], transport_up=10, seconds={"train": 2.0, "wait": 0.5, "total": 3.0}))
    run.queued(5, 2)
    run.saw(facts_of(2, workers=[0, 1, 2, 2], dropped=[3], transport_up=10, retries=2, lost=1, hung=1))
    assert told.messages == 0, "between two messages there are none"
    run.close()
    assert told.sums == {
        ("raysim_rounds", "first", "head"): 2,
        ("raysim_clients_trained", "first", "a"): 2,
        ("raysim_clients_trained", "first", "b"): 5,
        ("raysim_clients_dropped", "first", "head"): 1,
        ("raysim_transport_up_bytes", "first", "head"): 20,
        ("raysim_calls_lost", "first", "head"): 1,
        ("raysim_calls_hung", "first", "head"): 1,
        ("raysim_retries", "first", "head"): 2,
        ("raysim_phase_seconds", "first", "head", "train"): 2.0,
        ("raysim_phase_seconds", "first", "head", "wait"): 0.5,
    }
    assert told.last[("raysim_round", "first", "head")] == 2
    assert told.last[("raysim_clients_per_second", "first", "a")] == 0, "it is over"
    assert told.last[("raysim_pieces_waiting", "first", "head")] == 0


def test_gauges_say_what_goes_on_now(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "INTERVAL", 0.0)
    run = RunMetrics("first", "head", lambda worker: "a")
    run.saw(facts_of(1, workers=[0] * 4))
    assert told.last[("raysim_clients_per_second", "first", "a")] > 0
    run.queued(5, 2)
    assert told.last[("raysim_pieces_waiting", "first", "head")] == 5
    assert told.last[("raysim_calls_out", "first", "head")] == 2


def test_by_default_only_a_ray_that_the_run_did_not_start_is_told(told: Told) -> None:
    def on(wanted: Any, owned: bool) -> bool:
        return run_metrics(wanted, owned, "run", "head", str) is not None

    assert on("auto", owned=False)
    assert not on("auto", owned=True)
    assert on(True, owned=True)
    assert not on(False, owned=False)


def test_nothing_is_told_of_a_client(told: Told) -> None:
    """Else a run of a million clients would have a million series."""
    assert set(metrics.TAGS) == {"run", "node"}
    assert not any("client_id" in name for name in (*COUNTERS, *GAUGES))


def test_a_round_costs_additions_whatever_its_cohort(told: Told) -> None:
    """Not a time, which would depend on the machine: the messages that it takes, and the calls into Python."""
    import cProfile
    import pstats

    calls = []
    for cohort in (10, 10_000):
        run = RunMetrics("first", "head", lambda worker: "a")
        facts = facts_of(1, workers=[0, 1] * (cohort // 2))
        run._told = time.monotonic() + 3600
        with cProfile.Profile() as profile:
            run.saw(facts)
        calls.append(pstats.Stats(profile).total_calls)
    assert told.messages == 0
    assert calls[0] == calls[1] < 100


@pytest.mark.ray
def test_a_run_on_ray_tells_what_its_table_says(tmp_path: Path, ray_session: Any, told: Told) -> None:
    experiment = digits(tmp_path, "execution.executor=ray", "execution.actors=2", "rounds=3")
    with Simulation(experiment, directory=tmp_path / "watched") as simulation:
        rows = [done.row for done in simulation]
    home = ray_session.get_runtime_context().get_node_id()[:16]
    assert told.sums[("raysim_rounds", "watched", home)] == 3
    assert told.sums[("raysim_clients_trained", "watched", home)] == sum(row.trained for row in rows)
    assert told.sums[("raysim_transport_up_bytes", "watched", home)] == sum(row.transport_up for row in rows)
    assert told.last[("raysim_round", "watched", home)] == 3
    assert {name for name, *_ in (*told.sums, *told.last)} <= {*COUNTERS, *GAUGES}
