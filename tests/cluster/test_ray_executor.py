"""The executor on a real Ray: what lives where, what happens when an actor dies, what is left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke
from federations import digits, final_sha256, mnist_shaped, sha256

from raysim import Experiment, Simulation
from raysim.cluster.pool import ClientPool
from raysim.errors import ClientError, ConfigError, PlacementError, RunError

pytestmark = pytest.mark.ray


def on_ray(tmp_path: Path, *overrides: str) -> Experiment:
    return digits(tmp_path, "execution.executor=ray", "execution.actors=2", "rounds=2", *overrides)


def kill_after_giving(monkeypatch: pytest.MonkeyPatch, times: int) -> list[int]:
    """Kill the actor that was just given a lease, so many times; Ray starts it again."""
    give, killed = ClientPool._give, []

    def give_and_kill(self: ClientPool, flight: Any, piece: Any, worker: int) -> None:
        give(self, flight, piece, worker)
        if len(killed) < times:
            killed.append(worker)
            self._ray.kill(self.actors.roster.actor(worker), no_restart=False)

    monkeypatch.setattr(ClientPool, "_give", give_and_kill)
    return killed


def every_cpu_is_free(ray: Any, patience: float = 240.0) -> bool:
    """Whether all CPUs of the session come free: Ray takes back those of killed actors some time after the kill."""
    total, deadline = ray.cluster_resources()["CPU"], time.monotonic() + patience
    while (free := ray.available_resources().get("CPU", 0.0)) != total and time.monotonic() < deadline:
        time.sleep(0.1)
    return bool(free == total)


def test_an_actor_killed_with_a_lease_in_hand_changes_nothing(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = final_sha256(digits(tmp_path, "rounds=2"))
    killed = kill_after_giving(monkeypatch, times=2)
    assert final_sha256(on_ray(tmp_path)) == expected
    assert len(killed) == 2


def test_a_lease_that_is_lost_too_often_ends_the_run_and_says_so(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after_giving(monkeypatch, times=99)
    with (
        pytest.raises(RunError, match=r"round 1: a lease of \d clients \(first \d\) was lost 2 times"),
        Simulation(on_ray(tmp_path, "execution.max_retries=1")) as simulation,
    ):
        simulation.run()


def test_the_driver_holds_references_and_leaves_a_ray_that_it_did_not_start_alone(
    tmp_path: Path, ray_session: Any
) -> None:
    assert every_cpu_is_free(ray_session), "an earlier test still holds CPUs"
    with Simulation(on_ray(tmp_path)) as simulation:
        first = simulation._loop.server
        next(iter(simulation))
        after = simulation._loop.server
        handles = (first.model, first.state, after.model, after.state)
        assert all(isinstance(one, ray_session.ObjectRef) for one in handles)
        broadcast = ray_session.get(first.model)
        assert not broadcast.flags.writeable
        again = simulation._executor.fetch(simulation._executor.first())
        assert (broadcast == again).all(), "a broadcast was written"
    assert ray_session.is_initialized()
    assert every_cpu_is_free(ray_session), "client actors were left behind"


def test_user_code_is_found_in_the_working_directory_and_its_errors_name_the_client(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "algorithm_of_mine.py").write_text(
        "from raysim.algorithms import Algorithm\n"
        "class Mine(Algorithm):\n"
        "    paper = 'none'\n"
        "    def correct(self, grad, weights, b):\n"
        "        if 4 in b.clients:\n"
        "            raise ValueError('no such thing')\n"
    )
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(ClientError, match="client 4, round 1: ValueError: no such thing"),
        Simulation(on_ray(tmp_path, "algorithm=algorithm_of_mine:Mine", "cohort=1.0")) as simulation,
    ):
        simulation.run()


def test_what_is_wrong_with_the_model_or_the_placement_is_one_line_before_anything_trains(
    tmp_path: Path, ray_session: Any
) -> None:
    with pytest.raises(PlacementError, match=r"6 actors of 1 CPUs and 0 GPUs do not fit: there is room for 4"):
        Simulation(on_ray(tmp_path, "execution.clients_per_actor=1", "execution.num_cpus=1"))
    with pytest.raises(PlacementError, match=r"num_gpus: an actor wants 0\.3 GPUs, but no node has a GPU"):
        Simulation(on_ray(tmp_path, "execution.num_gpus=0.3"))
    with pytest.raises(ConfigError, match="no module 'nowhere'"):
        Simulation(on_ray(tmp_path, "model=nowhere:net"))
    assert not list(tmp_path.iterdir()), "a run that cannot start leaves nothing behind"


def test_actors_run_at_the_priority_of_the_driver(ray_session: Any) -> None:
    assert ray_session.get(ray_session.remote(lambda: os.nice(0)).options(num_cpus=0).remote()) == os.nice(0)


def test_an_address_where_no_ray_listens_is_refused_at_once(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session, "is_initialized", lambda: False)  # else the session's is used
    digits(tmp_path, "execution.executor=ray", "execution.address=127.0.0.1:9").to_yaml(tmp_path / "c.yaml")
    done = invoke("run", str(tmp_path / "c.yaml"))
    assert done.exit_code == 2
    assert "\nerror: execution.address: no Ray cluster at '127.0.0.1:9'" in f"\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_the_global_model_can_be_asked_for_at_any_round(tmp_path: Path, ray_session: Any) -> None:
    hashes = []
    for experiment in (digits(tmp_path, "rounds=2"), on_ray(tmp_path)):
        with Simulation(experiment) as simulation:
            hashes.append([sha256(simulation.model()) for _ in simulation])
    assert hashes[0] == hashes[1]


def test_arrays_and_modules_in_memory_reach_the_actors(tmp_path: Path, ray_session: Any) -> None:
    from torch import nn

    data, module = mnist_shaped([12, 30]), nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    overrides = ["data.partition=natural", "data.holdout=0", "cohort=2"]
    expected = final_sha256(digits(tmp_path, *overrides, "rounds=2"), data=data, model=module)
    assert final_sha256(on_ray(tmp_path, *overrides), data=data, model=module) == expected
