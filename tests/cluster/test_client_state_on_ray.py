"""What clients keep, on actors: the bits of one process, whoever trains whom, with actors killed and after a resume."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from federations import digits, final_sha256, sha256

from raysim import Simulation
from raysim.errors import RunError

SCAFFOLD = ["algorithm=scaffold", "rounds=5"]
RAY = "execution.executor=ray"

pytestmark = pytest.mark.ray


def test_scaffold_ends_in_the_bits_of_one_process_on_any_actors_and_with_state_in_files(
    tmp_path: Path, ray_session: Any
) -> None:
    expected = final_sha256(digits(tmp_path, *SCAFFOLD))
    for spread in (["execution.actors=3"], ["execution.clients_per_actor=2"]):
        files = ["execution.state_memory=0", f"execution.scratch={tmp_path}"]
        assert final_sha256(digits(tmp_path, *SCAFFOLD, RAY, *spread, *files)) == expected, spread
    assert not list(tmp_path.glob("raysim-clients-*"))


def test_what_clients_read_of_the_server_travels_in_small_rounds_and_in_shared_ones(
    tmp_path: Path, ray_session: Any
) -> None:
    mime = ["algorithm=mimelite", "rounds=12", "tracking.checkpoint_every=5"]
    expected = final_sha256(digits(tmp_path, *mime))
    assert final_sha256(digits(tmp_path, *mime, RAY, "execution.actors=2")) == expected


def test_leases_are_cut_where_clients_keep_much(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.cluster.leasing.LEASE_STATE_BYTES", 1)
    expected = final_sha256(digits(tmp_path, *SCAFFOLD))
    with Simulation(digits(tmp_path, *SCAFFOLD, RAY, "execution.actors=2")) as simulation:
        first = next(iter(simulation))
        simulation.run()
        assert sha256(simulation.model()) == expected
    assert (
        first.row.transport_down > 4 * 4 * simulation._prepared.columns
    )  # a lease a client, and the server's control beside the model


def test_a_run_saved_in_process_and_resumed_on_actors_and_back_ends_in_the_same_bits(
    tmp_path: Path, ray_session: Any
) -> None:
    expected = final_sha256(digits(tmp_path, *SCAFFOLD))
    with Simulation(digits(tmp_path, *SCAFFOLD)) as simulation:
        next(iter(simulation))
    with Simulation.resume(simulation.directory, overrides=[RAY, "execution.actors=2"]) as resumed:
        for committed in resumed:
            if committed.number == 3:
                break
    with Simulation.resume(simulation.directory, overrides=["execution.executor=inprocess"]) as again:
        again.run()
        assert sha256(again.model()) == expected


def test_an_actor_killed_between_rounds_changes_nothing(tmp_path: Path, ray_session: Any) -> None:
    expected = final_sha256(digits(tmp_path, *SCAFFOLD))
    with Simulation(digits(tmp_path, *SCAFFOLD, RAY, "execution.actors=2")) as simulation:
        pool = simulation._executor._pool
        pid = ray_session.get(pool._roster.actor(0).__ray_call__.remote(lambda actor: os.getpid()))
        for committed in simulation:
            if committed.number == 2:
                os.kill(pid, signal.SIGKILL)
        assert sha256(simulation.model()) == expected


def test_a_lost_keeper_ends_the_run_with_the_remedy_and_a_resume_comes_to_the_same_bits(
    tmp_path: Path, ray_session: Any
) -> None:
    expected = final_sha256(digits(tmp_path, *SCAFFOLD))
    with Simulation(digits(tmp_path, *SCAFFOLD, RAY, "execution.actors=2")) as simulation:
        rounds = iter(simulation)
        while next(rounds).number < 3:
            pass
        ray_session.kill(simulation._executor._states._keepers[0])
        with pytest.raises(RunError, match=r"what clients keep on one of the nodes is lost .*resume"):
            list(rounds)
    with Simulation.resume(simulation.directory) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
