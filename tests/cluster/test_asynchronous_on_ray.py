"""Asynchronous rounds on actors: the bits of one process, whatever order work is done in, dies or is begun again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from federations import digits, final_sha256, sha256

from raysim import Experiment, Simulation
from raysim.cluster.pool import ClientPool
from raysim.execution.preparation.prepare import prepare_job

FEDBUFF = "systems.timetable={name: fedbuff, buffer: 3, in_flight: 5, max_staleness: 6}"
FEDASYNC = "systems.timetable={name: fedasync, in_flight: 4, max_staleness: 8}"
HERE = Path(__file__).parent

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _where_actors_look_for_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)


def troubled(folder: Path, timetable: str, faults: list[dict[str, Any]], *overrides: str) -> Experiment:
    """Digits on uneven devices whose algorithm gets into these faults."""
    (folder / "marks").mkdir(parents=True, exist_ok=True)
    algorithm = {"name": "trouble:Trouble", "args": {"folder": str(folder / "marks"), "faults": faults}}
    fleet = "systems.fleet={name: log_normal, speed: 1, sigma: 1}"
    return digits(folder, fleet, timetable, "rounds=8", *overrides).updated([f"algorithm={algorithm}"])


def on_ray(actors: int) -> tuple[str, ...]:
    return "execution.executor=ray", f"execution.actors={actors}"


def test_two_actors_in_another_order_of_which_one_dies_and_the_server_come_to_the_bits_of_one_process(
    tmp_path: Path, ray_session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_out = ClientPool._give_out

    def least_urgent_first(self: ClientPool) -> None:
        self._flights.sort(key=lambda flight: -flight.due)
        give_out(self)

    monkeypatch.setattr(ClientPool, "_give_out", least_urgent_first)
    lost = {"what": "nothing", "at": "send", "round": 1, "client": 2}
    faults = [lost, {"what": "kill", "round": 2}, {"what": "kill", "at": "apply", "round": 4}]
    found = final_sha256(troubled(tmp_path / "ray", FEDBUFF, faults, *on_ray(2)))
    assert len(list((tmp_path / "ray" / "marks").iterdir())) >= 2, "both have died"
    assert final_sha256(troubled(tmp_path / "peace", FEDBUFF, [lost])) == found


@pytest.mark.parametrize(("actors", "timetable", "engine"), [(1, FEDASYNC, "sequential"), (4, FEDBUFF, "rows")])
def test_a_run_that_goes_on_in_mid_buffer_on_other_workers_comes_to_the_bits_of_an_unbroken_one(
    tmp_path: Path, ray_session: Any, actors: int, timetable: str, engine: str
) -> None:
    trained = "training.engine=" + engine, "training.compile=false"
    planned = prepare_job(troubled(tmp_path / "plan", timetable, [], *trained)).timetable
    assert planned is not None
    plan = next(plan for plan in planned.plans() if plan.step == 6)
    lost = {"what": "nothing", "at": "send", "round": int(plan.base[0]) + 1, "client": int(plan.clients[0])}
    expected = final_sha256(troubled(tmp_path / "whole", timetable, [lost], *trained))
    with Simulation(troubled(tmp_path / "broken", timetable, [lost], *trained, "rounds=3")) as simulation:
        simulation.run()
    assert list(simulation.directory.glob("checkpoints/*/older.safetensors")), "versions are in flight"
    with Simulation.resume(simulation.directory, overrides=["rounds=8", *on_ray(actors)]) as resumed:
        resumed.run()
        assert sha256(resumed.model()) == expected
    assert pq.read_table(simulation.directory / "rounds.parquet")["dropped"][5].as_py() == 1, "of FedAsync the only one"
