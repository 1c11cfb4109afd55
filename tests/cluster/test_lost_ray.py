"""A driver whose Ray dies under it says what died and how to go on, before Ray ends it without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysim.cluster import health
from raysim.cluster.health import Health
from raysim.errors import LostError
from raysim.tracking import CheckpointFolder, RunDirectory

TINY = """\
name: tiny
rounds: 100000
cohort: 3
data: {source: digits, partition: {name: iid, clients: 6}}
client: {steps: 1}
execution: {executor: ray, actors: 1, object_store_memory: 100000000}
training: {engine: sequential}
tracking: {report: false, checkpoint_every: 2}
"""


def service(driver: int, name: str) -> int:
    """The process of Ray's of this name that the driver started."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == driver and Path((entry / "cmdline").read_bytes().split(b"\0")[0].decode()).name == name:
                return int(entry.name)
        except OSError:
            continue  # it has ended
    raise AssertionError(f"no {name} below {driver}")


@pytest.mark.ray
@pytest.mark.parametrize(
    ("name", "said"), [("raylet", "the raylet of this node"), ("gcs_server", "its control service (GCS)")]
)
def test_a_run_whose_ray_is_killed_names_what_died_and_the_command_that_goes_on(
    tmp_path: Path, name: str, said: str
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-c", "from raysim.cli import main; main()", "run", "tiny.yaml", "--directory", "out"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    errors = tmp_path / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            [*command, "--json"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as driver,
    ):
        assert driver.stdout is not None
        killed = False
        for line in driver.stdout:
            if not line.startswith("{"):
                continue  # Ray's own words, once it is dying
            event = json.loads(line)
            if not killed and event["event"] == "round" and event["round"] >= 5:
                os.kill(service(driver.pid, name), signal.SIGKILL)
                killed = True
    assert killed, errors.read_text()
    assert driver.returncode == 2, errors.read_text()[-3000:]
    saved = CheckpointFolder(RunDirectory.open(tmp_path / "out")).latest()[0].round
    (line,) = [line for line in errors.read_text().splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: Ray is gone: {said} at ")
    assert line.endswith(f"then: raysim resume out (it goes on after round {saved})")


def fake_ray(port: int) -> SimpleNamespace:
    context = SimpleNamespace(get_node_id=lambda: "here", gcs_address=f"127.0.0.1:{port}")
    node = {"NodeID": "here", "NodeManagerAddress": "127.0.0.1", "NodeManagerPort": port}
    return SimpleNamespace(get_runtime_context=lambda: context, nodes=lambda: [node])


def test_a_ray_that_refuses_is_lost_and_one_that_cannot_be_reached_for_a_while_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Health(fake_ray(7), owned=True)
    monkeypatch.setattr(health.socket, "create_connection", raising(TimeoutError))
    asked.check()
    assert not asked.lost
    monkeypatch.setattr(health.socket, "create_connection", raising(ConnectionRefusedError))
    with pytest.raises(LostError, match=r"Ray is gone: the raylet of this node at 127.0.0.1:7 died"):
        asked.check()
    assert asked.lost


def raising(error: type[OSError]) -> object:
    def connect(*arguments: object, **options: object) -> None:
        raise error

    return connect
